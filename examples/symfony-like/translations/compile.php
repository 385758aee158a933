<?php

declare(strict_types=1);

// JSON for translators, PHP for the opcode cache; every language must say all that English says.
[, $from, $to] = $argv;
$english = null;
foreach (['en', ...array_diff(array_map(fn ($f) => basename($f, '.json'), glob("$from/*.json")), ['en'])] as $language) {
    $messages = json_decode(file_get_contents("$from/$language.json"), true, 2, JSON_THROW_ON_ERROR);
    $english ??= $messages;
    $missing = array_diff_key($english, $messages);
    if ($missing !== []) {
        fwrite(STDERR, "$language.json lacks " . implode(', ', array_keys($missing)) . "\n");
        exit(1);
    }
    file_put_contents("$to/$language.php", "<?php\n\nreturn " . var_export($messages, true) . ";\n");
}
