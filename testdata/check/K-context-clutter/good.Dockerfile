FROM node:22-slim
COPY --exclude=.git --exclude=node_modules . /app
