<?php

declare(strict_types=1);

namespace App;

/**
 * Templates below templates/, compiled to PHP below var/cache/.
 *
 * `{{ a.b }}` prints, `{{ trans(x) }}` and `{{ asset(x) }}` look up, `{% for a in b %}` … `{% endfor %}` repeats,
 * `{% include x %}` takes in another template.
 */
final class Templates
{
    public function __construct(private readonly Kernel $kernel)
    {
    }

    public function render(string $name, array $variables): string
    {
        $variables['blog'] = $this->kernel->config['blog'];
        $messages = require $this->kernel->root . '/var/translations/' . $variables['blog']['locale'] . '.php';
        ob_start();
        (static function (string $file, array $v, array $messages): void {
            require $file;
        })("{$this->kernel->cache}/templates/$name.php", $variables, $messages);

        return ob_get_clean();
    }

    /** Compiles all of them and answers how many. */
    public function warmUp(): int
    {
        $to = $this->kernel->cache . '/templates';
        is_dir($to) || mkdir($to, 0755, true);
        $files = glob($this->kernel->root . '/templates/*.html');
        foreach ($files as $file) {
            file_put_contents("$to/" . basename($file, '.html') . '.php', $this->compile(file_get_contents($file)));
        }

        return count($files);
    }

    private function compile(string $text): string
    {
        $assets = json_decode(file_get_contents($this->kernel->root . '/var/assets.json'), true, 8, JSON_THROW_ON_ERROR);
        $path = static fn (string $words): string => '$v' . preg_replace('/\.?(\w+)/', "['$1']", $words);
        $rules = [
            '/\{\{ asset\((\S+)\) \}\}/' => static fn (array $m): string => '/build/' . $assets[$m[1]],
            '/\{\{ trans\((\S+)\) \}\}/' => static fn (array $m): string => "<?= htmlspecialchars(\$messages['$m[1]']) ?>",
            '/\{\{ ([\w.]+) \}\}/' => static fn (array $m): string => '<?= htmlspecialchars((string) ' . $path($m[1]) . ') ?>',
            '/\{% for (\w+) in ([\w.]+) %\}/' => static fn (array $m): string => '<?php foreach (' . $path($m[2]) . " as \$v['$m[1]']): ?>",
            '/\{% endfor %\}/' => static fn (array $m): string => '<?php endforeach ?>',
            '/\{% include (\w+) %\}/' => static fn (array $m): string => "<?php require __DIR__ . '/$m[1].php' ?>",
        ];

        return preg_replace_callback_array($rules, $text);
    }
}
