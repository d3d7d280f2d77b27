# An environment with the toolboxes and what the tests need:
#   docker build -t saim_mm . && docker run --rm saim_mm make test
FROM debian:bookworm-slim
# g++ and Python's headers: torch.compile; OpenCV needs the two libraries.
RUN apt-get update && apt-get install -y --no-install-recommends \
    ca-certificates g++ git libgl1 libglib2.0-0 make python3.11-dev \
    python3.11-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /saim
COPY . .
# The environment of `make test`, in .venv.
RUN make .venv/.test
ENV PATH=/saim/.venv/bin:$PATH
CMD ["bash"]
