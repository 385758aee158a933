<?php

declare(strict_types=1);

namespace App;

/** What every request and every command needs: the configuration and who answers a path. */
final class Kernel
{
    public readonly string $cache;

    /** @var array{routes: array<string, array{class-string, string}>, blog: array<string, mixed>} */
    public readonly array $config;

    public function __construct(public readonly string $root)
    {
        $this->cache = $root . '/var/cache';
        $compiled = $this->cache . '/config.php';
        $this->config = is_file($compiled) ? require $compiled : $this->readConfig();
    }

    /** The files below config/, each under its name. */
    public function readConfig(): array
    {
        $config = [];
        foreach (glob($this->root . '/config/*.php') as $file) {
            $config[basename($file, '.php')] = require $file;
        }

        return $config;
    }

    public function handle(string $path): Response
    {
        foreach ($this->config['routes'] as $pattern => [$class, $method]) {
            if (preg_match($pattern, $path, $matches) === 1) {
                return (new $class($this))->$method(...array_slice($matches, 1));
            }
        }

        return new Response("There is no $path here.\n", 404, 'text/plain');
    }
}
