//! Dockerfile and stage file to build graph.
