<?php

return [
    'title' => 'Stages',
    'locale' => 'en',
    'posts_per_page' => 10,
];
