FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/spanledger
COPY constraints.txt ./
RUN /opt/spanledger/bin/python -m pip install --no-cache-dir -c constraints.txt --upgrade pip
COPY pyproject.toml README.md LICENSE ./
COPY processor processor
COPY exporters exporters
COPY sidecar sidecar
RUN /opt/spanledger/bin/python -m pip install --no-cache-dir -c constraints.txt --build-constraint constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/spanledger /opt/spanledger
COPY deploy/spanledger.yaml /etc/spanledger/spanledger.yaml
# The state folder exists before the volume does, so that a fresh volume takes over its owner.
RUN useradd --system --uid 10001 --no-create-home spanledger \
    && install -d -o spanledger -m 0700 /var/lib/spanledger
ENV PATH=/opt/spanledger/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SPANLEDGER_HOST=0.0.0.0 SPANLEDGER_STATE=/var/lib/spanledger
USER spanledger
VOLUME /var/lib/spanledger
EXPOSE 5317 5318 4320
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4320/livez', timeout=2)"]
ENTRYPOINT ["spanledger"]
CMD ["serve", "--config", "/etc/spanledger/spanledger.yaml"]
