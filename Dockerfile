# A server for the store that CHUNKSTORE_STORE names: docs/howto/deploy-a-server.md.
FROM python:3.12-slim
COPY pyproject.toml README.md LICENSE /src/
COPY chunkstore /src/chunkstore
COPY cli /src/cli
COPY api /src/api
RUN pip install --no-cache-dir '/src[api]' && rm -r /src \
    && useradd --create-home --uid 1000 chunkstore && install -d -o chunkstore /data
USER chunkstore
ENV CHUNKSTORE_STORE=/data/store CHUNKSTORE_TOKENS=/data/tokens.json
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["chunkstore"]
CMD ["serve", "--host", "0.0.0.0"]
