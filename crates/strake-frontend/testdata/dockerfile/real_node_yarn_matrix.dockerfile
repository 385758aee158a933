ARG NODE_VERSION=20
ARG VARIANT=bookworm-slim
FROM node:${NODE_VERSION}-${VARIANT} AS base
ARG NODE_VERSION
ARG VARIANT
LABEL node.version="$NODE_VERSION" node.variant="${VARIANT}"
FROM base AS dev
ENV NODE_ENV=development
CMD yarn dev
FROM base AS prod
ENV NODE_ENV=production
CMD ["yarn", "start"]
