# check=error=true
FROM unknown.example/not/yet:1
CMD ["a"]
CMD ["b"]
VOLUME $OF_THE_BASE
