FROM debian:12 AS base
FROM alpine:3.22 AS base
FROM alpine:3.22 AS base
