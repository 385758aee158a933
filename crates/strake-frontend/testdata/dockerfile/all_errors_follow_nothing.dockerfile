FROM unknown.example/not/yet:1
VOLUME $OF_THE_BASE
EXPOSE ${PORT} ${PORT:?none} nonsense
EXPOSE ${PORT:?none given} 80
STOPSIGNAL $SIGNAL
RUN --mount=type=cache,target=. true
COPY a b $DIRECTORY
COPY --chmod=$MODE a /b
CMD in shell form
WORKDIR relative
RUN --mount=type=cache,target=. true
WORKDIR /
EXPOSE ${PORT/[/}
RUN --mount=type=cache,target=. true
