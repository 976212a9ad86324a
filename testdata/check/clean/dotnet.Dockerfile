FROM mcr.microsoft.com/dotnet/sdk:9.0 AS build
WORKDIR /source
COPY *.sln .
COPY app/*.csproj ./app/
RUN dotnet restore
COPY app/. ./app/
WORKDIR /source/app
RUN dotnet publish -c release -o /app --no-restore

FROM mcr.microsoft.com/dotnet/aspnet:9.0
WORKDIR /app
COPY --from=build /app ./
USER 1654
EXPOSE 8080
ENTRYPOINT ["dotnet", "app.dll"]
