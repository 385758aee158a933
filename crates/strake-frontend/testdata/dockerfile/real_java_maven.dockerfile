FROM maven:3-eclipse-temurin-21 AS build
WORKDIR /build
COPY pom.xml .
RUN --mount=type=cache,target=/root/.m2 mvn -B dependency:go-offline
COPY src src
RUN --mount=type=cache,target=/root/.m2 mvn -B package -DskipTests && cp target/*.jar app.jar
FROM eclipse-temurin:21-jre
RUN groupadd -r app && useradd --no-log-init -r -g app app
USER app:app
COPY --from=build /build/app.jar /app.jar
ENV JAVA_OPTS=""
ENTRYPOINT exec java $JAVA_OPTS -jar /app.jar
