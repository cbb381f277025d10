package imapd

import (
	"context"
	"strings"

	"mailstead.dev/imapd/wire"
)

// capabilities is all that is announced, each with the text that it stands for
// and when it is: never where what it announces would be refused. Behind a last "="
// stands what it depends on.
var capabilities = []struct {
	name, rfc string
	when      func(s *session) bool
}{
	{"IMAP4", "RFC 1730", anytime}, // first (RFC 9051 section 9, capability-data)
	{"IMAP4rev1", "RFC 3501", anytime},
	{"IMAP4rev2", "RFC 9051", anytime},
	{"LITERAL+", "RFC 7888", literalsOfAnySize},
	{"LITERAL-", "RFC 7888", literalsOfSmallSize},
	{"SASL-IR", "RFC 4959", beforeLogin},
	{"STARTTLS", "RFC 3501 section 6.2.1", mayStartTLS},
	{"LOGINDISABLED", "RFC 3501 section 6.2.3", passwordsForbidden},
	{"AUTH=", "RFC 3501 section 6.2.2", mayAuthenticate},
	{"ID", "RFC 2971", anytime},
	{"ENABLE", "RFC 5161", anytime},
	{"IDLE", "RFC 2177", anytime},
	{"NAMESPACE", "RFC 2342", anytime},
	{"CHILDREN", "RFC 3348", anytime},
	{"SPECIAL-USE", "RFC 6154", anytime},
	{"UIDPLUS", "RFC 4315", anytime},
	{"UNSELECT", "RFC 3691", anytime},
	{"MOVE", "RFC 6851", anytime},
	{"CONDSTORE", "RFC 7162", anytime},
	{"QRESYNC", "RFC 7162", anytime},
	{"ESEARCH", "RFC 4731", anytime},
	{"SORT", "RFC 5256", anytime},
	{"SORT=DISPLAY", "RFC 5957", anytime},
	{"ESORT", "RFC 5267 section 3.1", anytime},
	{"CONTEXT=SEARCH", "RFC 5267", anytime},
	{"CONTEXT=SORT", "RFC 5267", anytime},
	{"THREAD=ORDEREDSUBJECT", "RFC 5256", anytime},
	{"THREAD=REFERENCES", "RFC 5256", anytime},
	{"THREAD=REFS", "draft-ietf-morg-inthread-01 section 4", anytime},
	{"MULTISEARCH", "RFC 7377", anytime},
	{"FILTERS", "RFC 5466", anytime},
	{"I18NLEVEL=2", "RFC 5255 section 4.4", anytime},
	{"SEARCHRES", "RFC 5182", anytime},
	{"SEARCH=FUZZY", "RFC 6203", anytime},
	{"LIST-EXTENDED", "RFC 5258", anytime},
	{"LIST-STATUS", "RFC 5819", anytime},
	{"STATUS=SIZE", "RFC 8438", anytime},
	{"MULTIAPPEND", "RFC 3502", anytime},
	{"OBJECTID", "RFC 8474", anytime},
	{"APPENDLIMIT=", "RFC 7889", anytime},
	{"SAVEDATE", "RFC 8514", anytime},
	{"WITHIN", "RFC 5032", anytime},
	{"CREATE-SPECIAL-USE", "RFC 6154 section 3", anytime},
	{"PREVIEW", "RFC 8970", anytime},
	{"BINARY", "RFC 3516", anytime},
	{"UTF8=ACCEPT", "RFC 6855", anytime},
	{"UNAUTHENTICATE", "RFC 8437", mayUnauthenticate},
	{"COMPRESS=DEFLATE", "RFC 4978", mayCompress},
	{"PARTIAL", "RFC 9394", anytime},
	{"INPROGRESS", "RFC 9585", anytime},
	{"REPLACE", "RFC 8508", anytime},
	{"UIDONLY", "RFC 9586", anytime},
	{"METADATA", "RFC 5464", anytime},
	{"METADATA-SERVER", "RFC 5464", anytime},
	{"QUOTA", "RFC 9208", anytime},
	{"QUOTA=RES-STORAGE", "RFC 9208 section 5.1", anytime},
	{"QUOTA=RES-MESSAGE", "RFC 9208 section 5.2", anytime},
	{"QUOTA=RES-MAILBOX", "RFC 9208 section 5.3", anytime},
	{"QUOTA=RES-ANNOTATION-STORAGE", "RFC 9208 section 5.4", anytime},
	{"QUOTASET", "RFC 9208 section 4.1.3", administering},
	{"ACL", "RFC 4314", anytime},
	{"RIGHTS=texk", "RFC 4314 section 5.1.1", anytime},
	{"LIST-MYRIGHTS", "RFC 8440", anytime},
	{"LOGIN-REFERRALS", "RFC 2221", tellsHome},
	{"MAILBOX-REFERRALS", "RFC 2193", refersMailboxes},
}

func anytime(*session) bool               { return true }
func administering(s *session) bool       { return s.state != notAuthenticated && s.user.AdministersAny() }
func literalsOfAnySize(s *session) bool   { return !s.server.o.LiteralMinus }
func literalsOfSmallSize(s *session) bool { return s.server.o.LiteralMinus }
func refersMailboxes(s *session) bool     { return s.server.o.moreCells() }
func beforeLogin(s *session) bool         { return s.state == notAuthenticated }
func afterLogin(s *session) bool          { return !beforeLogin(s) }
func mayUnauthenticate(s *session) bool   { return afterLogin(s) && !s.introduced }
func mayStartTLS(s *session) bool         { return beforeLogin(s) && !s.conn.tls && s.server.o.TLS != nil }
func mayAuthenticate(s *session) bool     { return beforeLogin(s) && s.privacy() }
func passwordsForbidden(s *session) bool {
	return beforeLogin(s) && !(s.privacy() && s.server.o.Authenticator.TakesPasswords())
}

// capabilityList is what CAPABILITY says, in the state as it is.
func (s *session) capabilityList() string {
	var names []string
	for _, c := range capabilities {
		switch {
		case !c.when(s):
		case c.name == "AUTH=":
			for _, mechanism := range s.server.o.Authenticator.Mechanisms(s.channel()) {
				names = append(names, c.name+mechanism)
			}
		case strings.HasSuffix(c.name, "="):
			names = append(names, c.name+numeral(s.store.MaxMessage()))
		default:
			names = append(names, c.name)
		}
	}
	return strings.Join(names, " ")
}

// capability = "CAPABILITY"
func readCapability(d *wire.Decoder) (run, error) {
	return do(func(_ context.Context, s *session) error {
		s.enc.Raw("* CAPABILITY ").Raw(s.capabilityList()).CRLF()
		return nil
	}), d.End()
}
