package imapd

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// Mailboxes of other cells among those that LIST and LSUB tell.
//
// RFC 2193 sections 3 and 5. RLIST and RLSUB tell of them in any case, and so does LIST with REMOTE (RFC 5258 section 3.1); LIST and LSUB
// do where they can be had otherwise than by referrals, which is as long as the client has not said that it knows of those. Each
// cell that is visited is asked for all that the guest sees among the mailboxes of other users, and for what it has subscribed to; patterns and options are then
// the same for all. Subscriptions to mailboxes of another cell are that cell's: so they are the same wherever the client asks.
//
// Where a cell is away, what is known is told, and then NO: a client that is told OK takes what is missing for deleted, and what it keeps of it, changes
// that it has yet to send among it, for waste. It is asked only by patterns that its mailboxes can match, so that of the others nothing is missing then.

// farEntry is a mailbox of another cell.
type farEntry struct {
	store.Entry
	visit store.Visit
}

// far are the mailboxes of other cells by name.
type far map[string]farEntry

// listFar lists the mailboxes of other cells, if they are asked for: of all cells that answer, and with the error of one that does not.
func (s *session) listFar(ctx context.Context, remote bool, patterns []pattern) (found far, missing error) {
	r := s.remotes
	if r == nil || s.lane != nil || !remote && r.refers || !slices.ContainsFunc(patterns, pattern.reachesOthers) {
		return nil, nil
	}
	if err := s.lookForVisits(ctx); err != nil {
		return nil, err
	}
	found = make(far)
	for i, l := range s.listCells(ctx, r.visits) {
		err := l.err
		if err == nil {
			err = s.addFar(ctx, r.visits[i], l.told, found)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case fatal(err):
			return nil, err
		case errors.Is(err, store.ErrNotExist): // it lets nobody in as that guest
		case err != nil:
			missing = err
		}
	}
	return found, missing
}

// mailboxesOf returns the names of the user, those of other cells among them if they are asked for; missing is why some are not.
func (s *session) mailboxesOf(ctx context.Context, remote bool, patterns ...pattern) (entries []store.Entry, f far, missing, err error) {
	if f, missing = s.listFar(ctx, remote, patterns); missing != nil && f == nil {
		return nil, nil, nil, missing
	}
	if entries, err = s.mailboxes(ctx); err != nil {
		return nil, nil, nil, err
	}
	entries, err = s.join(ctx, entries, f)
	return entries, f, missing, err
}

// reachesOthers tells whether a pattern can match a name among those of other users.
func (p pattern) reachesOthers() bool {
	const space = store.OtherUsers + delimiter

	fixed := string(p)
	if at := strings.IndexAny(fixed, "*%"); at >= 0 {
		fixed = fixed[:at]
		return strings.HasPrefix(space, fixed) || strings.HasPrefix(fixed, space)
	}
	return fixed == store.OtherUsers || strings.HasPrefix(fixed, space)
}

// farList is what a cell tells.
type farList struct {
	told []store.Entry
	err  error
}

// listCells asks the cells of visits, at the same time: one that is silent holds up none of the others.
func (s *session) listCells(ctx context.Context, visits []store.Visit) []farList {
	var mu sync.Mutex // guards what the command has reserved
	reserve := func(octets int64) error {
		mu.Lock()
		defer mu.Unlock()
		return s.reserve(octets)
	}
	lists := make([]farList, len(visits))
	var asked sync.WaitGroup
	for i, v := range visits {
		if _, known := s.server.o.Cells[v.Cell]; known {
			asked.Go(func() {
				defer recovered(&lists[i].err)
				lists[i].told, lists[i].err = s.listCell(ctx, v, reserve)
			})
		}
	}
	asked.Wait()
	return lists
}

// listCell returns what a cell tells. It runs beside those that ask other cells.
func (s *session) listCell(ctx context.Context, v store.Visit, reserve func(octets int64) error) (told []store.Entry, err error) {
	c, err := s.connect(ctx, v)
	if err != nil {
		return nil, err
	}
	defer c.rest()
	const all = `"" "` + store.OtherUsers + delimiter + `*"`
	commands := [][]byte{
		[]byte(remoteTag + " LIST " + all + " RETURN (SUBSCRIBED MYRIGHTS)\r\n"),
		[]byte(remoteTag + " LIST (SUBSCRIBED) " + all + "\r\n"),
	}
	var refused, tooMany error
	rights := make(map[string]acl.Rights)
	answered := 0
	err = c.ask(ctx, s, commands, func(response []byte) bool {
		if bytes.HasPrefix(response, []byte(remoteTag+" ")) {
			if answered++; !bytes.HasPrefix(response, []byte(remoteTag+" OK")) {
				refused = errElsewhere(v.Cell, errAnswer(string(response[len(remoteTag)+1:])))
			}
			return true
		}
		d, kind := s.farResponse(response)
		switch kind {
		case "LIST":
			e, exists := readFarEntry(d)
			e.Exists = exists || answered == 0 // of the first list are also those above others
			if d.Err() == nil && tooMany == nil {
				tooMany = reserve(entryWeight*int64(newLevels("", e.Name)) + 2*int64(len(e.Name)))
				told = append(told, e)
			}
			return true
		case "MYRIGHTS":
			name := d.Mailbox()
			d.SP()
			if has, err := acl.ParseRights(d.AString()); err == nil && d.Err() == nil {
				rights[name] = has
			}
			return true
		}
		return false
	})
	for i := range told {
		told[i].Rights = rights[told[i].Name]
	}
	return told, cmp.Or(err, refused, tooMany)
}

// addFar adds what a cell has told.
func (s *session) addFar(ctx context.Context, v store.Visit, told []store.Entry, found far) error {
	for _, e := range told {
		at, err := s.visitOf(ctx, e.Name)
		if err != nil {
			return err
		}
		if _, twice := found[e.Name]; twice || at == nil || *at != v || len(e.Name) > maxPattern { // or it is not that cell's to tell of
			continue
		}
		found[e.Name] = farEntry{e, v}
	}
	return nil
}

// farName returns the name of a mailbox as it stands in a command to another cell: in quotes, but that no mailbox can have a name that cannot be in them. Of
// such a name it is a literal, for which the other cell has to ask.
func (s *session) farName(name string) string {
	var b bytes.Buffer
	enc := wire.NewEncoder(bufio.NewWriter(&b))
	enc.UTF8 = s.limits.UTF8
	enc.Mailbox(name).Flush() // to memory
	return b.String()
}

// farResponse returns what reads an untagged response of another cell, behind its kind.
func (s *session) farResponse(response []byte) (d *wire.Decoder, kind string) {
	d = wire.NewDecoder(bufio.NewReader(bytes.NewReader(response)), wire.DecoderOptions{UTF8: s.limits.UTF8, MaxLine: len(response)})
	d.Special('*')
	d.SP()
	kind = d.Keyword()
	d.SP()
	return d, kind
}

// readFarEntry reads what stands behind LIST, up to the name.
func readFarEntry(d *wire.Decoder) (e store.Entry, exists bool) {
	exists = true
	d.List(func() {
		switch strings.ToLower(string(d.Flag())) {
		case `\nonexistent`:
			exists = false
		case `\subscribed`:
			e.Subscribed = true
		}
	})
	d.SP()
	d.NString()
	d.SP()
	e.Name = d.Mailbox()
	if exists {
		e.Mailbox = farMailbox
	}
	return e, exists
}

// farMailbox stands for the identifier of a mailbox of another cell, which has no meaning here.
const farMailbox = -1

// join returns the mailboxes of this cell and of others. What is subscribed here by a name that is of another cell is that cell's to tell.
func (s *session) join(ctx context.Context, entries []store.Entry, f far) ([]store.Entry, error) {
	if f == nil {
		return entries, nil
	}
	var all []store.Entry
	root := store.Entry{Name: store.OtherUsers}
	for _, e := range entries {
		if e.Name == store.OtherUsers {
			root = e
			continue
		}
		if e.Mailbox == 0 && store.Owner(e.Name) != "" {
			at, err := s.visitOf(ctx, e.Name)
			if err != nil {
				return nil, err
			}
			if at != nil {
				continue
			}
		}
		all = append(all, e)
	}
	for _, e := range f {
		all = append(all, e.Entry)
		root.Exists = root.Exists || e.Exists
	}
	if root.Exists || root.Subscribed {
		all = append(all, root)
	}
	slices.SortFunc(all, func(a, b store.Entry) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// mark says of the names in a tree which are of other cells.
func (f far) mark(t *nameTree) {
	for name, e := range f {
		t.nodes[name].visit = &e.visit
	}
}

// farStatus asks other cells for the status of those of the chosen names that are of them; missing is why some of it is not known.
func (c *listCmd) farStatus(ctx context.Context, s *session, chosen []*node) (missing, err error) {
	const together = 50

	if c.returns&listStatus == 0 {
		return nil, nil
	}
	of := make(map[store.Visit][]*node)
	for _, n := range chosen {
		if n.visit != nil && n.selected && n.selectable && n.rights.Has(acl.Read) {
			of[*n.visit] = append(of[*n.visit], n)
		}
	}
	for v, nodes := range of {
		for some := range slices.Chunk(nodes, together) {
			err := c.statusThere(ctx, s, v, some)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if fatal(err) {
				return nil, err
			}
			if err != nil {
				missing = err
				break
			}
		}
	}
	return missing, nil
}

// statusThere asks one cell.
func (c *listCmd) statusThere(ctx context.Context, s *session, v store.Visit, nodes []*node) error {
	there, err := s.connect(ctx, v)
	if err != nil {
		return err
	}
	defer there.rest()
	byName := make(map[string]*node)
	var commands [][]byte
	for _, n := range nodes {
		byName[n.name] = n
		commands = append(commands, []byte(remoteTag+" STATUS "+s.farName(n.name)+" ("+strings.Join(c.status, " ")+")\r\n"))
	}
	var unknown error
	answered := 0
	err = there.ask(ctx, s, commands, func(response []byte) bool {
		if answer, ok := bytes.CutPrefix(response, []byte(remoteTag+" ")); ok {
			if err := nodes[answered].endStatus(strings.TrimSpace(string(answer))); err != nil {
				unknown = errElsewhere(v.Cell, err)
			}
			answered++
			return true
		}
		d, kind := s.farResponse(response)
		if kind != "STATUS" {
			return false
		}
		n := byName[d.Mailbox()]
		d.SP()
		if items := d.Line(); d.Err() == nil && n != nil {
			n.status = items
		}
		return true
	})
	return cmp.Or(err, unknown)
}

// endStatus takes the answer to the STATUS of a mailbox of another cell: whether it has gone meanwhile (RFC 5819 section 2), or may not be
// read any more. Any other refusal says nothing of the mailbox.
func (n *node) endStatus(answer string) error {
	kind, text, _ := strings.Cut(answer, " ")
	code, _ := cutCode(text)
	switch {
	case kind == "OK" && n.status != "":
	case kind == "NO" && code == "NONEXISTENT":
		n.selectable = false
	case kind == "NO" && code == "NOPERM":
	default:
		return errAnswer(answer)
	}
	return nil
}
