<?php

declare(strict_types=1);

namespace App\Controller;

use App\Kernel;
use App\Response;

/** For whoever watches the container: who serves, and from where. */
final class HealthController
{
    public function __construct(private readonly Kernel $kernel)
    {
    }

    public function health(): Response
    {
        $user = posix_getpwuid(posix_geteuid())['name'] ?? posix_geteuid();
        $text = sprintf("ok: %s in %s as %s\n", getenv('APP_ENV'), $this->kernel->root, $user);

        return new Response($text, 200, 'text/plain');
    }
}
