FROM golang:1.22-alpine AS base
WORKDIR /app
RUN apk add --no-cache git=~2 make
FROM base AS deps
COPY go.* .
RUN go mod download
FROM deps AS test
COPY . .
RUN go vet ./... && go test -race ./...
FROM deps AS build
COPY . .
RUN go build -o /bin/server .
FROM alpine:latest AS release
COPY --from=build /bin/server /bin/server
EXPOSE 8080 9090/tcp
CMD ["/bin/server", "-listen", ":8080"]
