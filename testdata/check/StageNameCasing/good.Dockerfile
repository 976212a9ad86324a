FROM golang:1.25 AS build
