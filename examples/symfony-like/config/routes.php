<?php

// A path, or a pattern with one group, and who answers.
return [
    '#^/$#' => [App\Controller\BlogController::class, 'index'],
    '#^/post/([a-z0-9-]+)$#' => [App\Controller\BlogController::class, 'show'],
    '#^/health$#' => [App\Controller\HealthController::class, 'health'],
];
