FROM python:3.13-slim
USER 1000
EXPOSE 8000
CMD ["python", "-m", "http.server"]
