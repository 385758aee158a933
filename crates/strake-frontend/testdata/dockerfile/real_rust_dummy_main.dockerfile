FROM rust:1.79 as planner
WORKDIR app
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() { println!("{}", 1); }' > src/main.rs && cargo build --release && rm -rf src
COPY . .
RUN touch src/main.rs && cargo build --release
FROM scratch AS artifacts
COPY --link --from=planner /app/target/release/app /
