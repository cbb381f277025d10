package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

// metricName finds in PromQL what are names of our metrics, the runtime's and the process's.
var metricName = regexp.MustCompile(`\b(?:mailstead|go|process)_[a-z0-9_]+\b`)

var histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)

// names finds the metrics in a text. Buckets, sum and count of a histogram are one.
func names(text string) []string {
	found := metricName.FindAllString(text, -1)
	for i, name := range found {
		found[i] = histogramPart.ReplaceAllString(name, "")
	}
	return found
}

// What the dashboard and the alert rules ask for is exported, and what Mailstead exports of its own is on the dashboard.
func TestMetricsOfDashboardAndRules(t *testing.T) {
	deploy := filepath.Join("..", "..", "deploy")
	rules, err := os.ReadFile(filepath.Join(deploy, "prometheus", "mailstead.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var inRules []string
	for _, expr := range regexp.MustCompile(`(?m)^ *expr: (.*)$`).FindAllStringSubmatch(string(rules), -1) {
		inRules = append(inRules, names(expr[1])...)
	}
	text, err := os.ReadFile(filepath.Join(deploy, "grafana", "mailstead.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var onDashboard []string
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has an id that another has", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			onDashboard = append(onDashboard, names(target.Expr)...)
		}
	}
	if len(inRules) < 10 || len(onDashboard) < 20 {
		t.Fatalf("found no more than %v in the rules and %v on the dashboard", inRules, onDashboard)
	}

	cert, key, _ := certificateIn(t, t.TempDir())
	s := newServing(t, map[string]string{"roles": "[imap, lmtp, maintenance, index, admin]", "imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "store.staging": "false"})
	storetest.Account(t, s.store, "a@one.test")
	s.start(nil)
	s.hears("READY=1")
	// What is counted is there once it has happened.
	imap, lmtp := s.dial("imap"), s.dial("lmtp")
	imap.say("a NOOP\r\n")
	imap.await("a OK")
	lmtp.say("LHLO test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@one.test>\r\nDATA\r\n")
	lmtp.await("354 ")
	lmtp.say("Subject: x\r\n\r\nx\r\n.\r\n")
	lmtp.await("250 ")
	exported := map[string]bool{}
	for line := range strings.Lines(s.get("/metrics", http.StatusOK)) {
		if found := names(line); len(found) > 0 && !strings.HasPrefix(line, "#") {
			exported[found[0]] = true
		}
	}
	for where, wanted := range map[string][]string{"the rules": inRules, "the dashboard": onDashboard} {
		for _, name := range wanted {
			if !exported[name] {
				t.Errorf("%s ask for %s, which is not exported", where, name)
			}
		}
	}
	for name := range exported {
		if strings.HasPrefix(name, "mailstead_") && !slices.Contains(onDashboard, name) {
			t.Errorf("%s is exported and not on the dashboard", name)
		}
	}

	// Each alert is explained, and nothing else is.
	operations, err := os.ReadFile(filepath.Join(deploy, "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var alerts []string
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		alerts = append(alerts, alert[1])
	}
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(Mailstead\\w+)` \\|").FindAllStringSubmatch(string(operations), -1) {
		explained = append(explained, row[1])
	}
	if fmt.Sprint(explained) != fmt.Sprint(alerts) {
		t.Errorf("operations.md explains %v, and the alerts are %v", explained, alerts)
	}
}
