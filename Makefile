# The targets are explained in CONTRIBUTING.md.
SHELL := /bin/bash
GO ?= go
DATA ?= $(CURDIR)/data
PORT ?= 14300
FUZZTIME ?= 30s
SHARDS ?= 1
SHARD ?= 0
# grpcnotrace: the exporter of spans brings parts of gRPC, whose debugging pages (by reflection) would keep every method of the program, 10 MB.
export GOFLAGS += -buildvcs=false -tags=grpcnotrace
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo devel)

# Where `mailstead dev` and the tests find the S3 server, wherever their own binary lies.
LIBRARY := $(if $(filter 0,$(shell id -u)),/usr/local/lib/mailstead,$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mailstead)

.PHONY: run build dev-deps test-deps helm-tools test test-nested test-deploy containers lint docs fuzz fuzz-corpus long rights property search day quota billing tenants crash index-bench index-accounts index-long e2e e2e-serve e2e-clients e2e-auth e2e-kerberos e2e-directories e2e-backup login-bench login-timing login-guess cells bench bench-search memory clean

run: dev-deps build
	bin/mailstead dev --data $(DATA) --port-base $(PORT)

build:
	$(GO) build -ldflags "-X main.release=$(VERSION)" -o bin/ ./cmd/...

dev-deps:
	deploy/install.sh dev
	cd deploy/devs3 && $(GO) build -o $(LIBRARY)/devs3 .

test-deps: dev-deps helm-tools
	deploy/install.sh test

# What checks the chart. Helm brings all of Kubernetes's API: minutes, the first time.
helm-tools:
	mkdir -p $(LIBRARY)/helm-tools
	cd deploy/helm/tools && $(GO) build -trimpath -ldflags "-s -w" -o $(LIBRARY)/helm-tools/ helm.sh/helm/v3/cmd/helm github.com/yannh/kubeconform/cmd/kubeconform ./...

# One PostgreSQL and one S3 server for the tests of all packages.
test: test-deps test-nested test-deploy
	$(GO) run ./store/storetest/withservers $(GO) test -race -timeout 30m ./...

test-nested:
	cd deploy/devs3 && $(GO) vet ./... # its tests are those of deploy/local
	cd deploy/helm/tools && $(GO) vet ./...
	cd bench/imapload && $(GO) vet ./... && $(GO) test -race ./...

# What deploy/ has for systemd, Prometheus and Kubernetes; the dashboard is held against the metrics by a test of cmd/mailstead.
test-deploy: build helm-tools
	deploy/install.sh deploy
	deploy/systemd/check
	deploy/imap-backup/check
	deploy/prometheus/check
	TOOLS=$(LIBRARY)/helm-tools deploy/helm/check

# The programs as in their image.
containers:
	deploy/container/check

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

docs:
	$(GO) test ./cmd/mailstead/config -run TestReference -update
	$(GO) test ./cmd/imap-backup -run TestManual -update

# Every fuzz target of every package in turn, FUZZTIME each; with SHARDS=4 SHARD=1 every fourth, so that several machines or nights share them.
fuzz:
	@set -e; n=0; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep ^Fuzz || true); do \
	    n=$$((n + 1)); [ $$((n % $(SHARDS))) -eq $$(($(SHARD) % $(SHARDS))) ] || continue; \
	    echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $(FUZZFLAGS) $$package; \
	  done; done

# Keeps in testdata/fuzz, of each target, the hundred smallest inputs that fuzzing has found to reach new code: `make test` plays them, the next fuzzing begins with them.
fuzz-corpus:
	@cd "$$($(GO) env GOCACHE)/fuzz/mailstead.dev" && find . -name 'Fuzz*' -type d | while read -r target; do \
	  package=$(CURDIR)/$$(dirname "$$target"); to=$$package/testdata/fuzz/$$(basename "$$target"); \
	  if [ -d "$$package" ]; then mkdir -p "$$to" && (cd "$$target" && find . -type f -size -3 -printf '%s %f\n' | sort -n | head -n 100 | cut -d' ' -f2 | xargs cp -t "$$to"); fi; \
	done

# Real mail programs against `mailstead dev`, and in short against two `mailstead serve`.
e2e: build dev-deps
	deploy/e2e/run

e2e-serve: build dev-deps
	deploy/e2e/serve

# Many more mail programs, an account each.
e2e-clients: build dev-deps
	deploy/e2e/programs

# Every mechanism of SASL, used by programs of others.
e2e-auth: build dev-deps
	deploy/e2e/auth

# GSSAPI alone, with Debian's KDC.
e2e-kerberos: build dev-deps
	ONLY=GSSAPI deploy/e2e/auth

# Directories of tenants: slapd, killed and started again, and a database that is asked in SQL. All of it is part of make test.
e2e-directories: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 10m -run '^(TestLDAP|TestSQL|TestSilentServer|TestDirectoryOf)' ./auth/directory ./cmd/mailstead

# How many logins there are in a second, with remembered passwords and without; and whether the time of a refusal tells who is there.
login-bench: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 30m -run '^TestLoginRate$$' ./imapd -args -login.count=10000

# A program that tries 1,000 passwords is stopped; one of 200 is part of make test.
login-guess: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 30m -run '^TestGuessing$$' ./imapd -args -login.guesses=1000

login-timing: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 30m -run '^Test(Login|OTP)Timing$$' ./imapd -args -login.tries=500

# Two cells: logins that are passed through and referred, mailboxes of the other one, likewise, and what becomes of them when a cell goes; then those of `mailstead dev --cells 2`.
cells: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -race -v -count 1 -timeout 10m -run '^(TestLoginElsewhere|TestKnownElsewhere|TestNotPassedOn|TestLoginHint|TestLoginReferral|TestCell(Away|Breaks|sDisagree|IsKnown|Hangs|Drains)|TestSecretIsReplaced|TestIntroduced.*|TestPassed.*|TestDialogue.*|TestGuestLogin|TestGuestAndHome|TestGuestGuessed|TestVisit|TestTokensOfGuests|TestMailboxReferral|TestListOfCellAway|TestNoVisit|TestMailboxPassedOn|TestSelectedElsewhere|TestSelectedElsewhereIsKept|TestCopyBetweenCells|TestTooMuchBetweenCells|TestSelectedCellAway|TestHostileNamesPassedOn|TestSilentCell.*|TestRemote.*|TestCellsAreListedTogether|TestFromCellToCell|TestVisitsAreBounded|TestSelectedIsLeft|TestCopyIsCutOff|TestCopyBetweenCellsIsUnderWay|TestLogoutOfSilentCell|TestCellDoesNotGreet)$$' ./imapd
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 10m -run '^TestDevCells$$' ./cmd/mailstead

# imap-backup with Mailstead, Dovecot and Cyrus.
e2e-backup: build dev-deps
	cmd/imap-backup/e2e/run

# Which right each command takes: every command, each right missing in each way; and what LIST with rights takes of 1,000 mailboxes.
rights: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 10m -run '^(TestRights|TestRevokedWhileIdle|TestListOfManyIsFewStatements)$$' -bench '^BenchmarkListRights$$' ./imapd

# The property test of the mailbox log, longer than in `make test`, and whether it finds each mistake against the rules of the log.
property: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 90m -run '^(TestHistory|TestPlantedBugs)$$' ./store -args -history.planted -history.operations=200000 $(if $(SEED),-history.seed=$(SEED))
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 30m -run '^TestReadersOfAMailbox$$' ./store -args -readers.steps=4000 $(if $(SEED),-readers.seed=$(SEED))

# Quotas, longer than in `make test`: near each limit of each level, 16 clients on two front ends; then what pooled limits cost, both rates of one run.
quota: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -race -v -count 1 -timeout 30m -run '^TestQuota' ./store -args -quota.operations=300
	$(GO) run ./store/storetest/withservers $(GO) test -race -v -count 1 -timeout 30m -run '^TestQuotaRaceOverConnections$$' ./cmd/mailstead -args -quota.operations=100
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 30m -run '^TestPooledRate$$' ./store -args -quota.rate=5s

# A day of simulated use, maintenance being killed again and again: what is stored in the end, and that it is right.
day: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 90m -run '^TestDay$$' ./store -args -day.ticks=144 -day.operations=60 $(if $(SEED),-day.seed=$(SEED))

# A month of use: what the ledger says of each hour against what the lives of all messages say.
billing: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 60m -run '^TestBilling$$' ./store -args -billing.operations=5000 $(if $(SEED),-billing.seed=$(SEED))

# SEARCH against what the writers of 20,000 messages in many languages and encodings find in them, whatever happens meanwhile.
search: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 180m -run '^TestSearch(Texts|Equivalence)$$' ./cmd/mailstead -args -search.messages=20000 -search.queries=5000 $(if $(SEED),-search.seed=$(SEED))

# A tenant of 10,000 accounts and some of one: listed, charged, and erased without touching the others.
tenants: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 60m -run '^TestTenantsLargeAndSmall$$' ./store -args -tenants.accounts=10000

# Front ends, PostgreSQL and the S3 server killed under load; and whether that test finds what it must.
crash: dev-deps
	$(GO) vet -tags crash ./cmd/mailstead/crash
	$(GO) test -v -count 1 -timeout 60m -tags crash -run '^TestCrash' ./cmd/mailstead/crash -args $(if $(SEED),-crash.seed=$(SEED))

# All that takes longer than make test, but for the benchmark.
long: property search day quota billing tenants crash index-long e2e e2e-serve e2e-clients e2e-auth e2e-backup memory containers
	$(MAKE) fuzz FUZZTIME=10m

bench: build dev-deps
	bench/run
	bench/puts

# What an index costs and how soon it answers: 100,000 messages of some 3 KB of text.
index-bench:
	$(GO) test -run '^$$' -bench . -benchtime 200x -timeout 60m ./index -args -index.messages=100000

# One process with the indexes of 1,000 accounts of 1,000 messages each: what it takes in memory.
index-accounts: test-deps
	$(GO) run ./store/storetest/withservers $(GO) test -v -count 1 -timeout 120m -run '^TestIndexOfManyAccounts$$' ./cmd/mailstead -args -index.accounts=1000 -index.each=1000

# An index against a model, through longer histories, kills and damages than in `make test`.
index-long:
	$(GO) test -race -v -count 1 -timeout 60m -run '^(TestEquivalence|TestKill|TestDamage)$$' ./index -args -index.steps=1000 -index.kills=100 -index.damages=2000 $(if $(SEED),-index.seed=$(SEED))

# SEARCH, SORT and THREAD in a mailbox of 100,000 messages, beside Dovecot.
bench-search: build dev-deps
	bench/search

# What the processes take in memory when clients ask much of them.
memory:
	bench/memory

clean:
	rm -rf bin
