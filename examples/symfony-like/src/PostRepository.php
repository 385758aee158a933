<?php

declare(strict_types=1);

namespace App;

/** Posts are files `data/DATE-SLUG.txt`: a title, an empty line, a text. */
final class PostRepository
{
    public function __construct(private readonly string $directory)
    {
    }

    /** @return list<array{slug: string, date: string, title: string, text: string}> */
    public function latest(int $limit): array
    {
        $files = glob($this->directory . '/*.txt');
        rsort($files);

        return array_map($this->read(...), array_slice($files, 0, $limit));
    }

    public function find(string $slug): ?array
    {
        $files = glob($this->directory . "/????-??-??-$slug.txt");

        return $files === [] ? null : $this->read($files[0]);
    }

    private function read(string $file): array
    {
        [$title, $text] = explode("\n\n", file_get_contents($file), 2);
        $name = basename($file, '.txt');

        return ['slug' => substr($name, 11), 'date' => substr($name, 0, 10), 'title' => $title, 'text' => $text];
    }
}
