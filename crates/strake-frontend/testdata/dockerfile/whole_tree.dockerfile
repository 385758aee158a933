ARG BASE_IMAGE=debian:12
FROM ${BASE_IMAGE} AS base
RUN apt-get update
FROM base AS python
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt
FROM base AS npm
COPY package.json package-lock.json ./
RUN npm ci
FROM npm AS webpack
COPY src src
RUN npx webpack
FROM base AS runtime
COPY --from=python /usr/local /usr/local
COPY --from=webpack /dist /srv/dist
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "http.server"]
