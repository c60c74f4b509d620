# Run make without a target for the list of them.

IMAGE     ?= labelstream:$(VERSION)
CONTAINER ?= $(shell command -v docker || command -v podman)
FUZZTIME  ?= 30s
BENCHARGS ?=
HOURS     ?= 1

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  = $(shell git rev-parse --verify --quiet HEAD || echo unknown)
# The commit's date, not today's: the same commit gives the same binary.
DATE    = $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)
LDFLAGS = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
# Static, and the same bytes whatever directory it is built in.
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

ROOTFS  ?= dist/rootfs
# The certificate authorities that the image trusts.
CA_FILE ?= /etc/ssl/certs/ca-certificates.crt

# What a release is made for, from and into. SOURCE is the URL of the repository, for
# the image's labels.
PLATFORMS   ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
RELEASE     ?= dist/release
RELEASE_TMP ?= dist/build
CHART       ?= $(wildcard charts/labelstream)
SOURCE      ?=

STATICCHECK_VERSION = v0.8.2
STATICCHECK = bin/staticcheck-$(STATICCHECK_VERSION)

# test/ is a module of its own: it needs a Kubernetes API server, the binary must
# not. test/release needs what makes images and charts, the tests must not.
MODULES = . test test/release
BINARY  = $(CURDIR)/bin/labelstream

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/labelstream
	$(GOBUILD) -o $(BINARY) .

# A CLUSTER or KUBECONFIG of the environment is not meant for the demo, one given to
# make is. The flags are those of build, so that nothing is compiled twice.
.PHONY: demo
demo: build ## show what labelstream does, in seconds; CLUSTER=real with a real control plane; KUBECONFIG=file reads your own, and prints
	cd test && env $(if $(findstring command,$(origin KUBECONFIG)),KUBECONFIG="$(abspath $(KUBECONFIG))",-u KUBECONFIG) \
		CGO_ENABLED=0 LABELSTREAM_BINARY=$(BINARY) go run -trimpath -buildvcs=false ./cmd/demo \
		$(if $(findstring command,$(origin CLUSTER)),-cluster="$(CLUSTER)")

.PHONY: test
test: unit e2e ## run all tests

.PHONY: unit
unit: ## run the unit tests
	go test -race ./...

# The binary is no input that the go command's test cache knows. Most tests wait
# for something, so more of them than there are cores run at a time.
.PHONY: e2e
e2e: build ## run the end-to-end tests on a real API server and real Prometheus servers, which the first run provides
	cd test && LABELSTREAM_BINARY=$(BINARY) go test -race -count=1 -parallel 8 -timeout 60m ./...
	cd test/release && go test -count=1 -timeout 30m .

# The pages are those that the tests of app expect. npm puts nothing into the tree.
.PHONY: accessibility
accessibility: ## check the status page with axe in Chromium, which CHROMIUM may name; needs Node.js and npm
	mkdir -p dist/accessibility
	cp test/accessibility/* dist/accessibility
	cd dist/accessibility && npm ci --no-audit --no-fund && node check.js

.PHONY: soak
soak: build ## run two replicas for HOURS of changes, outages, kills and pauses, and write docs/soak.md; HOURS=1 by default
	cd test && LABELSTREAM_BINARY=$(BINARY) go run ./cmd/soak -hours $(HOURS)

.PHONY: docs
docs: ## write the tables of docs/configuration.md anew from the settings, and the chart's from its values
	go test -count=1 -run '^TestConfigurationDocument$$' ./config -update
	cd test && go test -count=1 -run '^TestDocument$$' ./chart -update

.PHONY: lint
lint: $(STATICCHECK) ## check formatting, licence headers, go vet (for macOS too), go.mod, staticcheck, and the documents against the code
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted, run gofmt -w on:" $$unformatted >&2; exit 1; }
	@missing=$$(grep -rL --include='*.go' '^$(SPDX)$$' .); test -z "$$missing" || { echo "without the licence's line, run make headers:" $$missing >&2; exit 1; }
	@set -e; for module in $(MODULES); do ( \
		set -ex; cd $$module; \
		go mod tidy -diff; \
		go vet ./...; \
		$(CURDIR)/$(STATICCHECK) ./... ); done
	GOOS=darwin GOARCH=arm64 go vet ./...
	go test -run '^Test(ConfigurationDocument|DocumentsNameSettings|FlagsAreDocumented)$$' . ./config
	go test ./docs

# The form that tools read. Each Go file begins with it.
SPDX = // SPDX-License-Identifier: Apache-2.0

.PHONY: headers
headers: ## write the licence's line into each Go file that lacks it
	@for file in $$(grep -rL --include='*.go' '^$(SPDX)$$' .); do { echo '$(SPDX)'; echo; cat $$file; } > $$file.new && mv $$file.new $$file; done

# staticcheck must be built with the Go version that the modules ask for.
$(STATICCHECK):
	GOBIN=$(CURDIR)/bin GOTOOLCHAIN=$$(go env GOVERSION) go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	mv bin/staticcheck $@

.PHONY: bench
bench: build ## measure backfill, daemon and webhook, and write docs/benchmarks.md; BENCHARGS are its flags, such as "--only Labels --runs 1"
	cd test && LABELSTREAM_BINARY=$(BINARY) go run ./cmd/bench $(BENCHARGS)

.PHONY: bench3m
bench3m: BENCHARGS += --huge 3000000
bench3m: bench ## the same, and backfills of 3 million objects

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME, 30s by default
	.ci/fuzz $(FUZZTIME)

# The Dockerfile and the release make the image's by this, so what the tests run in it
# is what is shipped.
.PHONY: rootfs
rootfs: export GOOS = linux
rootfs: program ## assemble in ROOTFS all that the image holds; GOARCH=arm64 or amd64 for another processor
	mkdir -p $(ROOTFS)/etc/ssl/certs
	cp $(CA_FILE) $(ROOTFS)/etc/ssl/certs/ca-certificates.crt
	echo 'nonroot:x:65532:65532::/:/sbin/nologin' > $(ROOTFS)/etc/passwd
	echo 'nonroot:x:65532:' > $(ROOTFS)/etc/group
	chmod -R u=rwX,go=rX $(ROOTFS)

# The image and the archives have the licences of all modules that are linked into the
# binary, and Go's.
.PHONY: program
program: ## assemble in ROOTFS the binary for GOOS and GOARCH, and the licences that go with it
	mkdir -p $(ROOTFS)
	$(GOBUILD) -o $(abspath $(ROOTFS))/labelstream .
	cp LICENSE NOTICE $(ROOTFS)
	rm -rf $(ROOTFS)/licenses
	mkdir -p $(ROOTFS)/licenses/go
	cp "$$(go env GOROOT)/LICENSE" "$$(go env GOROOT)/PATENTS" $(ROOTFS)/licenses/go
	@go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' . | sort -u | while read -r module dir; do \
		to=$(abspath $(ROOTFS))/licenses/$$module; \
		(cd $$dir && find . -type f ! -name '*.go' \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \)) | \
			while read -r file; do mkdir -p $$to/$${file%/*} && cp $$dir/$$file $$to/$$file || exit 1; done && \
		test -d $$to || { echo "$$module has no licence file" >&2; exit 1; }; done

# No container engine is needed. IMAGE is pushed where it begins with a registry, with
# the credentials of docker login or of a like tool.
.PHONY: release
release: ## make the files of a release in dist/release: VERSION=v1.2.3; IMAGE=registry.example.com/labelstream:v1.2.3 pushes it
	@echo '$(VERSION)' | grep -Eq '^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$$' || \
		{ echo "make release needs VERSION=v1.2.3; it is '$(VERSION)'" >&2; exit 1; }
	$(MAKE) build
	rm -rf $(RELEASE_TMP) $(RELEASE)
	mkdir -p $(RELEASE_TMP)/completions
	@set -e; for shell in bash zsh fish; do $(BINARY) completion $$shell > $(RELEASE_TMP)/completions/labelstream.$$shell; done
	@set -e; for platform in $(PLATFORMS); do os=$${platform%/*}; \
		$(MAKE) $$(test $$os = linux && echo rootfs || echo program) GOOS=$$os GOARCH=$${platform#*/} ROOTFS=$(RELEASE_TMP)/$$platform; done
	cd test/release && go run . -version $(VERSION) -commit $(COMMIT) -date $(DATE) -image $(IMAGE) -source '$(SOURCE)' \
		-build $(abspath $(RELEASE_TMP)) -manifests $(CURDIR)/manifests -chart '$(abspath $(CHART))' -out $(abspath $(RELEASE))

.PHONY: image
image: ## build the container image IMAGE with docker or podman; PLATFORM=linux/arm64 or linux/amd64 for another processor
	@test -n "$(CONTAINER)" || { echo "make image needs docker or podman and finds neither: install one, or set CONTAINER" >&2; exit 1; }
	$(CONTAINER) build $(if $(PLATFORM),--platform $(PLATFORM)) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --build-arg DATE=$(DATE) -t $(IMAGE) .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
