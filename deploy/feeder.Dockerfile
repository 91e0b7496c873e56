# The image of the feeder, which stands beside tmm in a pod: tmmctl, kubectl, and what they load.
#
#   make image-feeder
#
# tmmctl is the one of the image f5-tmm (make image), so both ends of the socket are of one release.

ARG TMM_IMAGE=f5-tmm:latest
# The first Debian whose kubectl is of these years.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${TMM_IMAGE} AS tmm

FROM ${BASE} AS rootfs
COPY scripts/image-feeder.sh /usr/local/sbin/
RUN image-feeder.sh packages
COPY --from=tmm /usr/bin/tmmctl /out/tmmctl
RUN image-feeder.sh assemble /out /rootfs

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="f5-tmm-feeder" \
      org.opencontainers.image.description="tmmctl and kubectl: brings a cluster's custom resources to tmm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="scratch"
COPY --from=rootfs /rootfs/ /
ENV PATH=/usr/bin HOME=/tmp
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tmmctl"]
CMD ["sync"]
