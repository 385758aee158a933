FROM node:20-bookworm-slim
WORKDIR /app
COPY package.json .
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc,required=true npm install
RUN --mount=type=secret,id=token,env=TOKEN \
    --network=none echo "${#TOKEN}"
