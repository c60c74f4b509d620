FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=unknown
ARG DATE=unknown
RUN make rootfs ROOTFS=/rootfs GOARCH=$TARGETARCH VERSION=$VERSION COMMIT=$COMMIT DATE=$DATE

FROM scratch
COPY --from=build /rootfs /
# As a number, so that a pod's runAsNonRoot can be checked.
USER 65532:65532
ENTRYPOINT ["/labelstream"]
