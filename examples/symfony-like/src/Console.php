<?php

declare(strict_types=1);

namespace App;

/** The commands of bin/console. */
final class Console
{
    public function __construct(private readonly Kernel $kernel)
    {
    }

    /** @param list<string> $words */
    public function run(array $words): int
    {
        return match ($words[0] ?? '') {
            'config:compile' => $this->compileConfig(),
            'cache:warmup' => $this->warmUp(),
            'page' => $this->page($words[1] ?? '/'),
            default => $this->usage(),
        };
    }

    private function compileConfig(): int
    {
        is_dir($this->kernel->cache) || mkdir($this->kernel->cache, 0755, true);
        $config = var_export($this->kernel->readConfig(), true);
        file_put_contents($this->kernel->cache . '/config.php', "<?php\n\nreturn $config;\n");

        return 0;
    }

    private function warmUp(): int
    {
        printf("%d templates\n", (new Templates($this->kernel))->warmUp());

        return 0;
    }

    private function page(string $path): int
    {
        $response = $this->kernel->handle($path);
        echo $response->body;

        return $response->status === 200 ? 0 : 1;
    }

    private function usage(): int
    {
        fwrite(STDERR, "usage: bin/console config:compile | cache:warmup | page PATH\n");

        return 2;
    }
}
