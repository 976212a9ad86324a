# check=experimental=all
# BASE the image to build on
ARG BASE=alpine:3.22
# a note
#
FROM ${BASE} AS base
