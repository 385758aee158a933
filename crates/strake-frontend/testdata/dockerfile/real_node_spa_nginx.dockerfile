FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package*.json ./
RUN npm ci
COPY public ./public
COPY src ./src
ARG API_URL
ARG PUBLIC_PATH=/
ENV REACT_APP_API_URL=${API_URL:-/api} PUBLIC_URL=${PUBLIC_PATH%/}
RUN npm run build
FROM nginx:1.27
COPY --from=build /app/build/ /usr/share/nginx/html/
COPY <<'EOF' /etc/nginx/conf.d/default.conf
server {
  listen 80;
  location / { try_files $uri $uri/ /index.html; }
}
EOF
STOPSIGNAL SIGQUIT
