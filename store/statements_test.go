package store_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailstead.dev/deploy/local"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// Every SQL statement of the program, as it stands in the source of the package that has them all, is run
// as one tenant with all that is another's for its parameters. It must do
// what it does where there is no other tenant, to the last column and error, and leave the other's rows as they are.

// ofAllTenants are statements that are meant to see more than one tenant, or are of none: they call
// functions of the owner's, each of which definers explains, or use tables that hold nothing of a tenant.
var ofAllTenants = regexp.MustCompile(`\b(lease|front_end|goose_db_version|staging_ring|search_node|login_secret|pg_roles|pg_notify)\b`)

// definers are the functions that run as the owner, whom row-level security does not bind, and what they give out
// for names that are another tenant's. There are no others.
var definers = map[string]string{
	"lookup_login":         "who has a login that is known, for the login, and how many logins have failed that name it",
	"begin_otp":            "who has a login that is known, where its one-time passwords stand",
	"end_otp":              "whether an exchange was under way that is known by a number of chance",
	"note_failure":         "which of the names that it counts for are blocked; it writes nothing of a tenant",
	"list_attempts":        "whose logins have failed, for operators",
	"clear_attempts":       "a number",
	"forget_attempts":      "a number, for maintenance",
	"blocks_to_post":       "who is blocked, for maintenance",
	"block_posted":         "nothing; it notes that an event of a block was told",
	"forget_revocations":   "a number, for maintenance",
	"resolve_addresses":    "where mail for an address that is known goes",
	"set_remote_domain":    "whether a domain is one of this cell's, for operators",
	"delete_remote_domain": "whether a domain was noted to live in another cell, for operators",
	"list_remote_domains":  "which domains live in other cells, for operators",
	"set_certificate":      "whether a domain is one of this cell's, and has a certificate, for operators",
	"reseal_certificate":   "whether there is a certificate, for operators",
	"delete_certificate":   "whether there was a certificate, for operators",
	"newest_certificates":  "a number",
	"list_certificates":    "the names of certificates, for front ends, which show them to everybody, and operators",
	"read_certificate":     "a certificate, which is shown to everybody, with its key, which is sealed",
	"forget_certificates":  "nothing; it is a trigger",
	"order_certificate":    "whether a domain is one of this cell's, and a name is ordered for it, for operators",
	"cancel_certificate":   "whether a name was ordered, for operators",
	"list_orders":          "the names that certificates are ordered for, for who orders, and operators",
	"order_done":           "nothing; it notes how an order has gone",
	"set_proof":            "nothing; it notes what front ends answer who asks whether a name is ours",
	"delete_proof":         "nothing; it takes that back",
	"newest_proofs":        "a number",
	"list_proofs":          "what front ends answer who asks whether a name is ours",
	"read_order_account":   "who orders certificates, with a key that is sealed",
	"list_order_accounts":  "who orders certificates, with keys that are sealed, for operators",
	"set_order_account":    "nothing; it notes who orders certificates",
	"forget_orders":        "nothing; it is a trigger",
	"lookup_domain":        "whose a domain is that is known",
	"lookup_account":       "whose an account is that is known",
	"list_tenants":         "the names of tenants, for maintenance and operators",
	"limited_tenants":      "the numbers of tenants of which anything is limited, for maintenance",
	"tenants_to_tell":      "the numbers of tenants that have events to be told, for maintenance",
	"create_tenant":        "a tenant that is new",
	"staged_by_tenant":     "how much each tenant has staged",
	"staging_slots":        "how much is staged in each slot",
	"rotate_staging":       "nothing",
	"truncate_staging":     "nothing; an empty slot is truncated",
	"sweep_progress":       "sums over all tenants",
	"usage_open":           "a number of seconds",
	"forget_usage":         "how many hours of its own tenant it has removed",
	"write_audit":          "nothing; it writes for the transaction's tenant alone",
	"index_work":           "the numbers of accounts that a search index is to be made for, for its nodes",
	"index_list":           "the numbers of accounts that a node has search indexes of, for that node",
	"index_nodes":          "the index nodes, with sums over what each has",
	"list_audits":          "the ends of the chains of all tenants, for operators",
	"revocations_since":    "numbers of tenants and accounts whose sessions are to end, for front ends, which have some of all",
}

// sqlStart begins what is a statement.
var sqlStart = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|LOCK|TRUNCATE|MERGE|COPY|CALL|DO|SET|DECLARE)\s`)

// source is the SQL that stands in the source of this package.
type source struct {
	constants  map[string]ast.Expr
	statements map[string]string // where each is
	templates  map[string]string // with the name of a table to be put in
}

// readSource reads the package. Nobody else of the program speaks SQL as those who serve: an import would be found.
func readSource(t testing.TB) *source {
	t.Helper()
	s := &source{make(map[string]ast.Expr), make(map[string]string), make(map[string]string)}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		for _, d := range f.Decls {
			s.declare(s.constants, d)
		}
	}
	for _, f := range parsed {
		for _, d := range f.Decls {
			known := maps.Clone(s.constants)
			ast.Inspect(d, func(n ast.Node) bool {
				if g, ok := n.(*ast.GenDecl); ok {
					s.declare(known, g)
				}
				return true
			})
			s.collect(set, d, known)
		}
	}
	return s
}

func (s *source) declare(known map[string]ast.Expr, d ast.Node) {
	g, ok := d.(*ast.GenDecl)
	if !ok || g.Tok != token.CONST {
		return
	}
	for _, spec := range g.Specs {
		v := spec.(*ast.ValueSpec)
		for i, name := range v.Names {
			if i < len(v.Values) {
				known[name.Name] = v.Values[i]
			}
		}
	}
}

func (s *source) collect(set *token.FileSet, in ast.Node, known map[string]ast.Expr) {
	ast.Inspect(in, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := s.value(e, known)
		if !ok || !sqlStart.MatchString(text) {
			return true
		}
		if strings.Contains(text, "%[1]s") {
			s.templates[text] = set.Position(n.Pos()).String()
		} else {
			s.statements[text] = set.Position(n.Pos()).String()
		}
		return false
	})
}

// value is that of a constant text.
func (s *source) value(e ast.Expr, known map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.ParenExpr:
		return s.value(e.X, known)
	case *ast.Ident:
		if c := known[e.Name]; c != nil {
			return s.value(c, known)
		}
	case *ast.BinaryExpr:
		a, okA := s.value(e.X, known)
		b, okB := s.value(e.Y, known)
		return a + b, okA && okB && e.Op == token.ADD
	}
	return "", false
}

// watcher collects what is run.
type watcher struct {
	mu  sync.Mutex
	ran map[string]bool
}

func (w *watcher) saw(sql string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran[sql] = true
}

func (w *watcher) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.saw(data.SQL)
	return ctx
}
func (w *watcher) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (w *watcher) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		w.saw(q.SQL)
	}
	return ctx
}
func (w *watcher) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (w *watcher) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// possess gives an account, its domain and its tenant something in every table that the store fills by itself.
func possess(t testing.TB, s *store.Store, login string) store.User {
	t.Helper()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	u := storetest.Account(t, s, login)
	domain := login[strings.Index(login, "@")+1:]
	_, err := s.CreateAlias(t.Context(), "alias@"+domain, login)
	do(err)
	do(s.SetCatchAll(t.Context(), domain, login))
	m := open(t, s, u, "INBOX")
	fill(t, m, 6)
	fold(t, m)
	flag(t, m, set(1, 2), view.Add, view.Deleted)
	_, _, err = m.Expunge(t.Context(), nil)
	do(err)
	fold(t, m)
	add(t, m, 7, 0, "keyword")
	_, err = m.Copy(t.Context(), set(3), open(t, s, u, "Archive"))
	do(err)
	_, err = s.Create(t.Context(), u, "Old", nil)
	do(err)
	add(t, open(t, s, u, "Old"), 8, 0)
	do(s.Delete(t.Context(), u, "Old"))
	do(s.SetMetadata(t.Context(), u, "INBOX", []store.Annotation{{Entry: "/shared/comment", Value: []byte("x")}, {Entry: "/private/comment", Value: []byte("x")}}))
	do(s.SetTenantMetadata(t.Context(), u.Tenant, store.Annotation{Entry: "/shared/comment", Value: []byte("x")}))
	for _, name := range []string{"phone", "printer"} {
		do(s.AddAppPassword(t.Context(), u, store.AppPassword{Name: name, Secret: "x", Protocols: []string{"imap"}}))
	}
	do(s.RevokeAppPassword(t.Context(), u, "printer"))
	do(s.SetOTP(t.Context(), u, store.OneTimePassword{Algorithm: "md5", Sequence: 500, Seed: "one" + domain[:3], Last: []byte(domain[:8])}))
	do(s.AddIssuer(t.Context(), u.Tenant, store.Issuer{URL: "https://login." + domain, Audience: "mail", Claim: "email"}))
	do(s.NoteKnownAddresses(t.Context(), u.Tenant, []store.KnownAddress{{Account: u.Account, From: netip.MustParseAddr("192.0.2.7")}}))
	do(s.AddTenantNetwork(t.Context(), u.Tenant, netip.MustParsePrefix("192.0.2.0/24")))
	do(s.SetRemoteDomain(t.Context(), "home.test", "west"))
	_, err = s.CreateGuest(t.Context(), "guest@"+domain, "user@home.test")
	do(err)
	do(s.AddVisit(t.Context(), u, store.Visit{Cell: "west", Login: "guest@home.test"}))
	do(store.PackTenant(s, t.Context(), u.Tenant, true))
	add(t, m, 9, 0)
	_, err = s.Sweep(t.Context(), u.Tenant)
	do(err)
	s.CountFetched(u, 1)
	do(s.TellReads(t.Context()))
	do(s.CloseHours(t.Context(), u.Tenant))
	_, err = s.TakeIndex(t.Context(), u.Tenant, u.Account, "node of "+domain, time.Minute)
	do(err)
	do(s.StampIndex(t.Context(), u.Tenant, u.Account, "node of "+domain, 0, 1))
	known, _, err := s.KnowsIndex(t.Context(), u.Tenant, u.Account, "node of "+domain, 1)
	do(err)
	if !known {
		t.Error("the stamp that was given is not known")
	}
	do(s.SaveIndexCopy(t.Context(), u.Tenant, u.Account, "node of "+domain, store.IndexCopy{Stamp: 1, UpTo: 1}, strings.NewReader("copy"), 4))
	return u
}

func TestStatementsOfOtherTenants(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.UsageInterval = time.Hour })
	k := newMeteringClock(t, c, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	w := &watcher{ran: make(map[string]bool)}
	s.Trace(w)
	own := possess(t, s, "ann@one.test")
	k.advance(time.Hour)
	other := possess(t, s, "eve@two.test")
	gone := storetest.Account(t, s, "gone@two.test")
	if err := s.DeleteAccount(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	k.advance(time.Hour)
	if err := s.CloseHours(t.Context(), other.Tenant); err != nil {
		t.Fatal(err)
	}
	third := possess(t, s, "late@three.test")
	if err := s.DeleteTenant(t.Context(), third.Tenant); err != nil {
		t.Fatal(err)
	}

	a := &trespass{auditor: newAuditor(t, c), own: own.Tenant, other: other, source: readSource(t)}
	a.learn()
	a.escaped(w)
	statements := a.prepare()
	if len(statements) < 150 {
		t.Errorf("only %d statements were found", len(statements))
	}
	a.run(statements)
}

// trespass tries statements in one transaction, which is never committed.
type trespass struct {
	*auditor
	own    id.Tenant
	other  store.User
	source *source

	named map[string][]string // what is the other's, by the names of columns and parameters
}

// tried is a statement with parameters.
type tried struct {
	sql, place string
	writes     bool // it may: by itself, or by a function of ours
	binds      int  // the parameter that is the tenant it binds its transaction to, from 1; 0: it binds it to none
	oids       []uint32
	args       [][]byte
}

// learn collects what is the other tenant's.
func (a *trespass) learn() {
	a.Helper()
	a.named = map[string][]string{"limit": {"1000"}}
	for _, table := range a.tables() {
		rows, err := a.conn.Query(a.Context(), fmt.Sprintf(`SELECT * FROM %s WHERE tenant_id = $1 ORDER BY 1, 2 LIMIT 20`, table), a.other.Tenant)
		if err != nil {
			a.Fatal(err)
		}
		empty := true
		for rows.Next() {
			empty = false
			values, err := rows.Values()
			if err != nil {
				a.Fatal(err)
			}
			for i, f := range rows.FieldDescriptions() {
				switch v := values[i].(type) {
				case int64:
					a.know(f.Name, strconv.FormatInt(v, 10))
				case string:
					a.know(f.Name, v)
				case []byte:
					a.know(f.Name, `\x`+hex.EncodeToString(v))
				}
			}
		}
		if err := rows.Err(); err != nil {
			a.Fatal(err)
		}
		if empty {
			a.Logf("the other tenant has nothing in %s", table)
		}
	}
	for parameter, column := range map[string]string{
		"t": "tenant_id", "account": "account_id", "box": "mailbox_id", "boxes": "mailbox_id", "sum": "digest", "digests": "digest", "keys": "object_key", "asked": "login",
		"accounts": "account_id", "object": "object_key", "modseqs": "modseq", "expected": "highestmodseq",
	} {
		a.named[parameter] = a.named[column]
	}
}

func (a *trespass) know(name, value string) {
	if !slices.Contains(a.named[name], value) {
		a.named[name] = append(a.named[name], value)
	}
}

var spaces = regexp.MustCompile(`\s+`)

func oneSpace(sql string) string { return strings.TrimSpace(spaces.ReplaceAllString(sql, " ")) }

// escaped finds what was run and is not in the source as it was read.
func (a *trespass) escaped(w *watcher) {
	a.Helper()
	known := make(map[string]bool)
	for sql := range a.source.statements {
		known[oneSpace(sql)] = true
	}
	var templates []*regexp.Regexp
	for sql := range a.source.templates {
		templates = append(templates, regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(oneSpace(sql)), regexp.QuoteMeta("%[1]s"), `\w+`)+"$"))
	}
	if len(w.ran) < 100 {
		a.Errorf("only %d statements were run", len(w.ran))
	}
	for sql := range w.ran {
		text := oneSpace(sql)
		_, bound, _ := strings.Cut(text, "; ") // what binds a transaction to its tenant comes with its BEGIN
		switch {
		case known[text], slices.ContainsFunc(templates, func(r *regexp.Regexp) bool { return r.MatchString(text) }):
		case strings.HasPrefix(text, "BEGIN") && (bound == "" || strings.HasPrefix(bound, "SELECT set_config('mailstead.tenant'")):
		case slices.Contains([]string{"COMMIT", "commit", "ROLLBACK", "rollback"}, text):
		default:
			a.Errorf("%q was run, and is not in the source as it was read", text)
		}
	}
}

var (
	compared = regexp.MustCompile(`(\w+)\)? *(=|<|>|<=|>=|IN|= ANY) *\(?\$(\d+)`)
	writing  = regexp.MustCompile(`\b(INSERT|UPDATE|DELETE)\b`)
	limited  = regexp.MustCompile(`LIMIT \$(\d+)`)
	inserted = regexp.MustCompile(`(?s)INSERT INTO \w+(?: AS \w+)? \(([^)]*)\)\s*(?:VALUES\s*\(|SELECT\s+)([^)]*)`)
	called   = regexp.MustCompile(`\b(\w+)\(([^()]*)\)`)
	binding  = regexp.MustCompile(`set_config\('mailstead\.tenant', \$(\d+), true\)`)
)

// prepare finds the statements, and parameters for each: what is the other's, as far as names tell what they are for.
func (a *trespass) prepare() []tried {
	a.Helper()
	signatures := a.signatures()
	ours := slices.Collect(maps.Keys(signatures))
	all := maps.Clone(a.source.statements)
	for template, place := range a.source.templates {
		for _, table := range a.tables() {
			all[strings.ReplaceAll(template, "%[1]s", table)] = place + " " + table
		}
	}
	var found []tried
	for _, sql := range slices.Sorted(maps.Keys(all)) {
		if ofAllTenants.MatchString(sql) || slices.ContainsFunc(slices.Collect(maps.Keys(definers)), func(f string) bool { return strings.Contains(sql, f+"(") }) {
			continue
		}
		d, err := a.conn.PgConn().Prepare(a.Context(), "", sql, nil)
		if state(err) == "42703" && strings.Contains(all[sql], " ") {
			continue // a template for a table that has no such column
		}
		if err != nil {
			a.Errorf("%s: %v", all[sql], err)
			continue
		}
		names := parameterNames(sql, signatures)
		for round := range 3 {
			t := tried{sql: sql, place: all[sql], oids: d.ParamOIDs, writes: writing.MatchString(sql) || slices.ContainsFunc(ours, func(f string) bool { return strings.Contains(sql, f+"(") })}
			if m := binding.FindStringSubmatch(sql); m != nil {
				t.binds, _ = strconv.Atoi(m[1]) // they are digits
			}
			for i, oid := range d.ParamOIDs {
				value, ok := a.value(names[i+1], oid, round)
				if !ok {
					a.Errorf("%s: no value for $%d, of type %d", all[sql], i+1, oid)
				}
				t.args = append(t.args, value)
			}
			if round > 0 && slices.EqualFunc(t.args, found[len(found)-1].args, func(x, y []byte) bool { return string(x) == string(y) }) {
				break
			}
			found = append(found, t)
		}
	}
	return found
}

// signatures returns the names of the parameters of our functions.
func (a *trespass) signatures() map[string][]string {
	a.Helper()
	rows, _ := a.conn.Query(a.Context(), `
		SELECT proname::text, coalesce(proargnames, '{}')::text[] FROM pg_proc WHERE pronamespace = 'public'::regnamespace`) // ForEachRow reports the error
	found := make(map[string][]string)
	var name string
	var names []string
	_, err := pgx.ForEachRow(rows, []any{&name, &names}, func() error {
		found[name] = slices.Clone(names)
		return nil
	})
	if err != nil {
		a.Fatal(err)
	}
	return found
}

// parameterNames tells what each parameter is compared with, put into, or called.
func parameterNames(sql string, signatures map[string][]string) map[int]string {
	names := make(map[int]string)
	name := func(parameter, as string) {
		if n, err := strconv.Atoi(parameter); err == nil && names[n] == "" {
			names[n] = as
		}
	}
	for _, m := range limited.FindAllStringSubmatch(sql, -1) {
		name(m[1], "limit")
	}
	for _, m := range compared.FindAllStringSubmatch(sql, -1) {
		as := m[1]
		if strings.ContainsAny(m[2], "<>") {
			as += " " + m[2]
		}
		name(m[3], as)
	}
	for _, m := range inserted.FindAllStringSubmatch(sql, -1) {
		columns, values := strings.Split(m[1], ","), strings.Split(m[2], ",")
		for i := range min(len(columns), len(values)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(values[i]), "$"); ok {
				name(v, strings.TrimSpace(columns[i]))
			}
		}
	}
	for _, m := range called.FindAllStringSubmatch(sql, -1) {
		for i, v := range strings.Split(m[2], ",") {
			v, _, _ = strings.Cut(strings.TrimSpace(v), "::")
			if v, ok := strings.CutPrefix(v, "$"); ok && i < len(signatures[m[1]]) {
				name(v, signatures[m[1]][i])
			}
		}
	}
	return names
}

// value is one for a parameter: the other's, of its name, if there is one, or any of its type.
func (a *trespass) value(name string, oid uint32, round int) ([]byte, bool) {
	typeOf := map[uint32]string{20: "1", 21: "0", 23: "1", 25: "x", 19: "x", 16: "true", 17: `\x00`, 1184: "2020-01-01 00:00Z", 1186: "0", 701: "1", 1700: "1"}
	elements := map[uint32]uint32{1016: 20, 1005: 21, 1007: 23, 1009: 25, 1001: 17, 1185: 1184, 1000: 16}
	if element, ok := elements[oid]; ok {
		v, ok := a.value(name, element, round)
		return []byte(`{"` + strings.ReplaceAll(string(v), `\`, `\\`) + `"}`), ok
	}
	any, ok := typeOf[oid]
	column, operator, _ := strings.Cut(name, " ")
	switch {
	case strings.HasPrefix(operator, ">"): // as a page that begins there: everything
		if oid == 25 {
			return []byte(""), ok
		}
		return []byte(map[bool]string{true: "0", false: any}[oid == 20]), ok
	case operator != "":
		if oid == 20 {
			any = "1000000"
		}
		return []byte(any), ok
	}
	values := a.named[column]
	if len(values) == 0 {
		return []byte(any), ok
	}
	v := values[round%len(values)]
	if _, err := strconv.ParseInt(v, 10, 64); err != nil && (oid == 20 || oid == 21 || oid == 23) || strings.HasPrefix(v, `\x`) != (oid == 17) || oid == 16 || oid == 1184 || oid == 1186 {
		return []byte(any), ok
	}
	return []byte(v), ok
}

// outcome is all that a statement tells: its rows, or its error.
type outcome struct {
	told    string
	rows    int
	changed int64
	touched []string // tables of the other tenant in which something has changed
}

// as runs a statement as a tenant, and takes it back.
func (a *trespass) as(tenant string, t tried, there map[string]string) outcome {
	a.Helper()
	a.exec(`SAVEPOINT before`)
	a.exec(fmt.Sprintf(`SELECT set_config('mailstead.tenant', '%s', true)`, tenant))
	a.exec(`SET LOCAL ROLE ` + local.ServingRole)
	args := slices.Clone(t.args)
	if t.binds > 0 {
		args[t.binds-1] = []byte(tenant)
	}
	r := a.conn.PgConn().ExecParams(a.Context(), t.sql, args, t.oids, nil, nil).Read()
	var o outcome
	if r.Err != nil {
		var e *pgconn.PgError
		if !errors.As(r.Err, &e) {
			a.Fatalf("%s: %v", t.place, r.Err)
		}
		o.told = e.Code + " " + e.Message
	} else {
		var lines []string
		for _, row := range r.Rows {
			var columns []string
			for _, c := range row {
				columns = append(columns, string(c))
			}
			lines = append(lines, strings.Join(columns, "|"))
		}
		slices.Sort(lines)
		o.told, o.rows, o.changed = r.CommandTag.String()+"\n"+strings.Join(lines, "\n"), len(r.Rows), r.CommandTag.RowsAffected()
		if there != nil && t.writes {
			a.exec(`RESET ROLE`)
			o.touched = differences(there, a.of(a.other.Tenant))
		}
	}
	a.exec(`ROLLBACK TO SAVEPOINT before; RELEASE SAVEPOINT before`)
	return o
}

func (a *trespass) exec(sql string) {
	a.Helper()
	if _, err := a.conn.Exec(a.Context(), sql); err != nil {
		a.Fatalf("%s: %v", sql, err)
	}
}

func (a *trespass) run(statements []tried) {
	a.Helper()
	a.exec(`BEGIN`)
	defer a.exec(`ROLLBACK`)
	there := a.of(a.other.Tenant)
	own, other := fmt.Sprint(a.own), fmt.Sprint(a.other.Tenant)
	with := make([]outcome, len(statements))
	reached, reach := make(map[string]bool), make(map[string]bool)
	for i, t := range statements {
		reach[t.sql] = true
		if o := a.as(other, t, there); len(o.touched) > 0 || o.rows > 0 {
			reached[t.sql] = true // it is one that can do something with what it is given
		}
		with[i] = a.as(own, t, there)
		if len(with[i].touched) > 0 {
			a.Errorf("%s: %s\nwith %q changes what is another tenant's in %v", t.place, t.sql, t.args, with[i].touched)
		}
		if o := a.as("", t, there); len(o.touched) > 0 || o.rows > 0 && usesTables(t.sql) {
			a.Errorf("%s: %s\nwith %q as no tenant tells %s and changes %v", t.place, t.sql, t.args, o.told, o.touched)
		}
	}
	a.exec(`SET LOCAL session_replication_role = replica`) // no foreign key, no trigger
	for _, table := range a.tables() {
		a.exec(fmt.Sprintf(`DELETE FROM %s WHERE tenant_id = %s`, table, other))
	}
	a.exec(`SET LOCAL session_replication_role = origin`)
	for i, t := range statements {
		if without := a.as(own, t, nil); without.told != with[i].told {
			a.Errorf("%s: %s\nwith %q tells\n%s\nwhere another tenant has that, and\n%s\nwhere none has", t.place, t.sql, t.args, with[i].told, without.told)
		}
	}
	a.Logf("%d statements, %d of which reach what is the other tenant's when they are run as that, each with up to three sets of parameters", len(reach), len(reached))
	if len(reached)*2 < len(reach) {
		a.Errorf("no more than %d of %d statements would have reached anything", len(reached), len(reach))
	}
}

// usesTables tells whether a statement is about rows, and not only about settings.
func usesTables(sql string) bool {
	return regexp.MustCompile(`\b(FROM|INTO|UPDATE)\s+\w+`).MatchString(sql)
}

// What holds of every table and function, whatever statement is run: no table is without row-level security that
// the owner cannot turn off by accident, and no function gets around it but those that are known.
func TestEveryTableAndFunctionIsOfATenant(t *testing.T) {
	c := storetest.Config(t)
	a := newAuditor(t, c)
	texts := func(query string) []string {
		t.Helper()
		rows, _ := a.conn.Query(t.Context(), query) // CollectRows reports the error
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	const relations = `FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> 'goose_db_version'`
	open := texts(`
		SELECT c.relname::text ` + relations + ` AND NOT (c.relrowsecurity AND c.relforcerowsecurity
			AND (SELECT array_agg(p.polname || ' ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
			                      || p.polcmd::text || p.polpermissive::text || (SELECT string_agg(pg_get_userbyid(r), ',') FROM unnest(p.polroles) r) ORDER BY p.polname)
			     FROM pg_policy p WHERE p.polrelid = c.oid)
			= ARRAY['owner true*true` + local.OwnerRole + `', 'tenant (tenant_id = ( SELECT current_tenant() AS current_tenant))*truemailstead_serving'])
		ORDER BY 1`)
	// They hold nothing of a tenant: who does which job, which slot is filled, and a secret of the installation; or,
	// login_attempt, otp_exchange, remote_domain and certificates, what only functions can reach.
	if want := []string{"certificate", "certificate_account", "certificate_order", "certificate_proof", "certificate_version", "front_end", "lease", "login_attempt", "login_secret", "otp_exchange", "remote_domain", "search_node", "staging_ring"}; !slices.Equal(open, want) {
		t.Errorf("tables without the rules of protect: %v, want %v", open, want)
	}
	for _, reached := range texts(`SELECT table_name || ': ' || privilege_type || ' by ' || grantee FROM information_schema.role_table_grants
		WHERE table_name IN ('certificate', 'certificate_account', 'certificate_order', 'certificate_proof', 'certificate_version', 'login_attempt', 'otp_exchange', 'remote_domain') AND grantee <> '` + local.OwnerRole + `'`) {
		t.Errorf("what only functions are to reach can be reached: %s", reached)
	}
	if others := texts(`
		SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('public', 'pg_catalog', 'information_schema', 'pg_toast')`); len(others) > 0 {
		t.Errorf("there are tables elsewhere: %v", others)
	}
	for _, name := range texts(`SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef`) {
		if definers[name] == "" {
			t.Errorf("%s runs as the owner, and definers does not say what it gives out", name)
		}
	}
	if loose := texts(`
		SELECT proname::text FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace AND prosecdef AND NOT coalesce(proconfig::text[] @> ARRAY['search_path=public, pg_temp'], false)`); len(loose) > 0 {
		t.Errorf("functions that run as the owner look for tables where others may have put some: %v", loose)
	}
	if who := texts(`SELECT rolname::text FROM pg_roles WHERE (rolsuper OR rolbypassrls) AND pg_has_role('` + local.ServingRole + `', oid, 'MEMBER')`); len(who) > 0 {
		t.Errorf("who serves is one of %v", who)
	}
}

// What is kept in memory or on disk is found by keys that have the tenant in them, or another tenant's could be found.
func TestKeysOfCaches(t *testing.T) {
	structs, keys := make(map[string]*ast.StructType), make(map[string]bool)
	for _, folder := range []string{".", "blob"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					if s, ok := n.Type.(*ast.StructType); ok {
						structs[n.Name.Name] = s
						if len(s.Fields.List) > 0 && strings.HasSuffix(n.Name.Name, "Key") {
							keys[n.Name.Name] = true
						}
					}
				case *ast.IndexListExpr: // of a generic cache
					if of, ok := n.X.(*ast.SelectorExpr); ok && of.Sel.Name == "Cache" {
						if key, ok := n.Indices[0].(*ast.Ident); ok {
							keys[key.Name] = true
						}
					}
				}
				return true
			})
		}
	}
	var ofTenant func(name string) bool
	ofTenant = func(name string) bool {
		if structs[name] == nil {
			return false
		}
		return slices.ContainsFunc(structs[name].Fields.List, func(f *ast.Field) bool {
			switch of := f.Type.(type) {
			case *ast.SelectorExpr:
				return of.Sel.Name == "Tenant"
			case *ast.Ident:
				return len(f.Names) == 0 && ofTenant(of.Name) // embedded
			}
			return false
		})
	}
	if len(keys) < 5 {
		t.Errorf("keys are %v", keys)
	}
	for key := range keys {
		if !ofTenant(key) {
			t.Errorf("%s has no tenant", key)
		}
	}
}

// What the owner's functions give out as another tenant is no more than definers says.
func TestFunctionsOfTheOwner(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	own, other := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "eve@two.test")
	add(t, open(t, s, other, "INBOX"), 1, 0)
	ask := func(query string, args ...any) (columns []string, rows int, err error) {
		t.Helper()
		err = s.Transact(t.Context(), own.Tenant, func(tx pgx.Tx) error {
			r, err := tx.Query(t.Context(), query, args...)
			if err != nil {
				return err
			}
			defer r.Close()
			for _, f := range r.FieldDescriptions() {
				columns = append(columns, f.Name)
			}
			for r.Next() {
				rows++
			}
			return r.Err()
		})
		return columns, rows, err
	}
	for _, test := range []struct {
		query string
		args  []any
		rows  int
	}{
		{`SELECT * FROM lookup_login($1, NULL, '1 hour') WHERE account_id IS NOT NULL`, []any{other.Login}, 1},
		{`SELECT * FROM lookup_login($1, NULL, '1 hour') WHERE account_id IS NOT NULL`, []any{"%"}, 0},
		{`SELECT * FROM lookup_account($1)`, []any{other.Login}, 1},
		{`SELECT * FROM lookup_account($1)`, []any{"%@two.test"}, 0},
		{`SELECT * FROM lookup_domain($1)`, []any{"two.test"}, 1},
		{`SELECT * FROM lookup_domain($1)`, []any{"%"}, 0},
		{`SELECT * FROM resolve_addresses($1, $2, true)`, []any{[]string{other.Login}, []*string{nil}}, 1},
		{`SELECT * FROM resolve_addresses($1, $2, false)`, []any{[]string{"%", "*@two.test"}, []*string{nil, nil}}, 0},
		{`SELECT * FROM staged_by_tenant()`, nil, 1},
		{`SELECT * FROM sweep_progress()`, nil, 1},
	} {
		columns, rows, err := ask(test.query, test.args...)
		if err != nil || rows != test.rows {
			t.Errorf("%s with %v: %d rows, %v, want %d", test.query, test.args, rows, err, test.rows)
		}
		for _, secret := range []string{"data", "record", "meta", "prefix", "name", "bytes", "messages"} {
			if slices.Contains(columns, secret) && !strings.Contains(test.query, "staged_by_tenant") {
				t.Errorf("%s gives out %s", test.query, secret)
			}
		}
	}
	a := newAuditor(t, c)
	before := a.of(other.Tenant)
	if _, _, err := ask(`SELECT forget_usage('2000-01-01', 1000)`); err != nil {
		t.Error(err)
	}
	if tables := differences(before, a.of(other.Tenant)); len(tables) > 0 {
		t.Errorf("forget_usage has changed another tenant's %v", tables)
	}
}
