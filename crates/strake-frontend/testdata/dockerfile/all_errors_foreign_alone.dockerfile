# syntax=example.com/other/language
FROM scratch
EXPOSE nonsense
