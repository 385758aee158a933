<?php

declare(strict_types=1);

// PHP's own server asks for files here too; `false` lets it send them.
$path = (string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if (PHP_SAPI === 'cli-server' && $path !== '/' && is_file(__DIR__ . $path)) {
    return false;
}

require dirname(__DIR__) . '/vendor/autoload.php';

(new App\Kernel(dirname(__DIR__)))->handle($path)->send();
