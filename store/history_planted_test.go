package store_test

// plantedBugs are mistakes against the rules of the mailbox log. That a FETCH
// which sets \Seen tells its MODSEQ is a rule of imapd's: here is no FETCH, and imapd/testdata/seen.imap has it.
var plantedBugs = []planted{
	{
		name: "a guard that does not raise",
		sql:  unguarded(""),
	},
	{
		name: "the state is read before the lock",
		program: []edit{{
			in:  "change.go",
			old: "deleted_at IS NULL\n\t\t\tFOR NO KEY UPDATE`",
			new: "deleted_at IS NULL`",
		}},
		sql: unguarded(""),
	},
	{
		name: "MOVE and EXPUNGE without a look at what is there",
		sql: append(unguarded("AND (highestmodseq = expected OR d_messages < 0)"),
			edit{
				in:  "change_mailboxes",
				old: "IF now_at <> expected[i] THEN",
				new: "IF now_at <> expected[i] AND d_messages[i] >= 0 THEN",
			}),
	},
	{
		name: "COPY does not hold its source",
		sql: []edit{{
			in:  "change_mailboxes",
			old: "IF now_at <> expected[i] THEN",
			new: "IF now_at <> expected[i] AND recs[i] IS NOT NULL THEN",
		}},
	},
	{
		name: "locks in any order",
		program: []edit{{
			in:  "change.go",
			old: "slices.SortFunc(order, func(a, b int) int { return int(c.targets[a].mailbox - c.targets[b].mailbox) })",
			new: "",
		}},
	},
	{
		name: "a conditional STORE without its condition",
		program: []edit{{
			in:  "flags.go",
			old: "case c.UnchangedSince >= 0 && msg.ModSeq > c.UnchangedSince:",
			new: "case c.UnchangedSince > msg.ModSeq+1<<60:",
		}},
	},
	{
		name: "a view without continuity",
		program: []edit{
			{
				in:  "mailbox_view.go",
				old: "if end.modSeq != v.ModSeq()+id.ModSeq(len(tail)) {",
				new: "if len(tail) > 1<<30 {",
			},
			{
				in:  "mailbox_view.go",
				old: "if l.modSeq != v.ModSeq()+1+id.ModSeq(i) {",
				new: "if l.modSeq < 0 {",
			},
			{
				in:  "mailbox_view.go",
				old: "if now.UIDNext() != end.uidNext {",
				new: "if now.UIDNext() < 1 {",
			},
		},
	},
	{
		name: "a view that is not asked for what is new",
		program: []edit{{
			in:  "mailbox_view.go",
			old: "now, epoch, err := s.advance(ctx, key, v)",
			new: "now, epoch, err := v, int64(1), error(nil)",
		}},
	},
	{
		name: "a cached view of a mailbox that may not be looked at any more",
		program: []edit{{
			in:  "mailbox_view.go",
			old: "if !found {\n\t\ts.views.drop(key)\n\t\treturn nil, 0, ErrNotExist\n\t}",
			new: "if !found {\n\t\treturn v, 1, nil\n\t}",
		}},
	},
	{
		name: "row, segments and log are not of one snapshot",
		program: []edit{{
			in:  "mailbox_view.go",
			old: "err = s.readSnapshot(ctx, key.tenant,",
			new: "err = s.read(ctx, key.tenant,",
		}, { // the time between the statements, in which a fold falls often enough
			in:  "mailbox_view.go",
			old: "\tb.Queue(segments, key.tenant, key.mailbox)",
			new: "\tb.Queue(`SELECT pg_sleep(0.005)`)\n\tb.Queue(segments, key.tenant, key.mailbox)",
		}},
	},
	{
		name: "HIGHESTMODSEQ covers an EXPUNGE that is withheld",
		program: []edit{{
			in:  "view/diff.go",
			old: "next.Covered = told.Covered",
			new: "",
		}},
	},
	{
		name: "a fold that drops the end of the log",
		sql: []edit{
			{in: "fold_mailbox", old: "AND modseq > folded AND modseq <= up_to", new: ""},
			{in: "fold_mailbox", old: "IF n <> up_to - folded THEN", new: "IF n < up_to - folded THEN"},
		},
	},
	{
		name: "two that fold at once",
		sql: []edit{
			{in: "fold_mailbox", old: "IF m.folded_modseq <> folded OR", new: "IF"},
			{in: "fold_mailbox", old: "IF n <> cardinality(old_first) THEN", new: "IF false THEN"},
			{in: "fold_mailbox", old: "IF n <> up_to - folded THEN", new: "IF false THEN"},
		},
	},
	{
		name: "a fold that forgets what was expunged",
		sql: []edit{{
			in:  "fold_mailbox",
			old: "AS x (modseq, at, record);",
			new: "AS x (modseq, at, record) WHERE false;",
		}},
	},
	{
		name: "a counter that is not moved",
		sql:  []edit{{in: "write_record", old: "unseen = unseen + d_unseen", new: "unseen = unseen"}},
	},
	{
		name: "\\Recent told twice",
		sql:  []edit{{in: "claim_recent", old: "IF was < next THEN", new: "IF false THEN"}},
	},
	{
		name: "UIDVALIDITY used again",
		trigger: `
			CREATE FUNCTION reuse_uidvalidity() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				NEW.uidvalidity := coalesce(
					(SELECT max(uidvalidity) FROM mailbox WHERE tenant_id = NEW.tenant_id AND name = NEW.name), NEW.uidvalidity);
				RETURN NEW;
			END
			$$;
			CREATE TRIGGER reuse_uidvalidity BEFORE INSERT ON mailbox FOR EACH ROW EXECUTE FUNCTION reuse_uidvalidity()`,
	},
	{
		name: "a mark that is not of one snapshot",
		program: []edit{{
			in:  "mark.go",
			old: "\t\treturn m.read(ctx, tx, expired)\n\t})\n",
			new: `		return m.read(ctx, tx, expired)
	})
	time.Sleep(20 * time.Millisecond)
	if err == nil {
		err = s.snapshot(ctx, t, func(tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, "SELECT email_id FROM email WHERE tenant_id = $1 AND account_id = $2", t, account)
			var email id.Email
			_, err := pgx.ForEachRow(rows, []any{&email}, func() error {
				m.emails.add(email)
				return nil
			})
			return err
		})
	}
`,
		}},
	},
	{
		name: "an undelete that leaves what it brings back",
		program: []edit{{
			in:  "undelete.go",
			old: "if err := u.takeFromRecords(ctx, tx); err != nil || !c.written {",
			new: "if !c.written {",
		}},
	},
	{
		name: "a recall that is not waited for",
		program: []edit{
			{in: "recall.go", old: "err != nil || len(recalled) == 0 {", new: "err != nil || len(recalled) < 1000 {"},
			{in: "watch.go", old: "w.store.delegations.receive(n.Payload)", new: "time.Sleep(2 * time.Millisecond)\n\t\t\tw.store.delegations.receive(n.Payload)"},
		},
	},
	{
		name: "a recall that is not heeded",
		program: []edit{{
			in:  "trust.go",
			old: "\t\t\tdelete(d.of, key)\n",
			new: "",
		}},
	},
	{
		name: "a mailbox that nothing recalls",
		sql: []edit{
			{in: "recall_delegate", old: "PERFORM pg_notify", new: "PERFORM concat"},
			{in: "recall_delegate", old: "RAISE INFO", new: "RAISE DEBUG"},
		},
	},
	{
		name: "REPLACE that is charged as a whole",
		sql: []edit{{
			in:  "append_messages",
			old: "charge_account(t, account, n - freed, d_bytes - freed_bytes, n,",
			new: "charge_account(t, account, n, d_bytes, n,",
		}},
	},
}

// unguarded changes the guard of the statement that changes a mailbox, which then
// writes its record at whatever MODSEQ the mailbox has come to.
func unguarded(guard string) []edit {
	return []edit{
		{in: "write_record", old: "AND highestmodseq = expected", new: guard},
		{in: "write_record", old: "RETURNING log_bytes INTO log;", new: "RETURNING log_bytes, highestmodseq INTO log, now_at;"},
		{in: "write_record", old: "VALUES (t, box, expected + 1,", new: "VALUES (t, box, now_at,"},
	}
}
