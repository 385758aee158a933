<?php

declare(strict_types=1);

namespace App\Controller;

use App\Kernel;
use App\PostRepository;
use App\Response;
use App\Templates;

final class BlogController
{
    private readonly PostRepository $posts;
    private readonly Templates $templates;

    public function __construct(private readonly Kernel $kernel)
    {
        $this->posts = new PostRepository($kernel->root . '/data');
        $this->templates = new Templates($kernel);
    }

    public function index(): Response
    {
        $posts = $this->posts->latest($this->kernel->config['blog']['posts_per_page']);

        return new Response($this->templates->render('index', ['posts' => $posts]));
    }

    public function show(string $slug): Response
    {
        $post = $this->posts->find($slug);
        if ($post === null) {
            return new Response("There is no post $slug.\n", 404, 'text/plain');
        }

        return new Response($this->templates->render('show', ['post' => $post]));
    }
}
