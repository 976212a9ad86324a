FROM alpine:3.22
ENTRYPOINT ["echo"]
CMD ["hello"]
