package store

import "testing"

func TestSummary(t *testing.T) {
	for sql, want := range map[string]string{
		"\n\t\tSELECT m.mailbox_id, m.uidvalidity\n\t\tFROM mailbox m\n\t\tWHERE m.tenant_id = $1 FOR NO KEY UPDATE": "SELECT mailbox",
		"SELECT write_record($1, $2)":                                "SELECT write_record",
		"SELECT write_record($1) WHERE set_config('a', $2) <> ''":    "SELECT write_record",
		"SELECT done, logs FROM change_mailboxes($1, $2)":            "SELECT change_mailboxes",
		"SELECT set_config('mailstead.tenant', $1, true)":            "SELECT set_config",
		"SELECT count(*) FROM (SELECT 1 FROM email) e":               "SELECT email",
		"INSERT INTO object_intent (tenant_id) VALUES ($1)":          "INSERT object_intent",
		"UPDATE blob SET alive = true":                               "UPDATE blob",
		"DELETE FROM object_intent WHERE tenant_id = $1":             "DELETE object_intent",
		"INSERT INTO a SELECT 1 ON CONFLICT (b) DO UPDATE SET b = 1": "INSERT a",
		"BEGIN; SELECT set_config('mailstead.tenant', '5', true)":    "BEGIN",
		"COMMIT":  "COMMIT",
		"-- ping": "-- ping",
		"":        "SQL",
	} {
		if got := summary(sql); got != want {
			t.Errorf("summary(%q) = %q, want %q", sql, got, want)
		}
	}
}
