package imapd

// GETQUOTA, GETQUOTAROOT and SETQUOTA.
//
// RFC 9208, and RFC 2087, whose forms are the same. Every mailbox has three quota roots, whose names are account:LOGIN,
// domain:NAME and tenant:NAME; package quota has them. Resources without a limit are not told, so that a
// root without any is told with an empty list (RFC 9208 section 4.2.1). Soft limits are not told as limits; who exceeds one is warned.

import (
	"context"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/quota"
	"mailstead.dev/store"
)

// quotaKeeper is what these commands need of the store.
type quotaKeeper interface {
	MailboxQuota(ctx context.Context, u store.User, mailbox string) (roots []store.QuotaRoot, counts bool, err error)
	FindQuota(ctx context.Context, u store.User, name string) (store.QuotaRoot, error)
	LimitQuota(ctx context.Context, u store.User, name string, limits quota.Limits) (store.QuotaRoot, error)
}

var _ quotaKeeper = (*store.Store)(nil)

// getquota = "GETQUOTA" SP quota-root-name
func readGetQuota(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.AString()
	return do(func(ctx context.Context, s *session) error {
		r, err := s.store.FindQuota(ctx, s.user, name)
		if err != nil {
			return err
		}
		s.writeQuota(r, true)
		return nil
	}), d.End()
}

// getquotaroot = "GETQUOTAROOT" SP mailbox
func readGetQuotaRoot(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		roots, counts, err := s.store.MailboxQuota(ctx, s.user, name)
		if err != nil {
			return err
		}
		// quotaroot-response = "QUOTAROOT" SP mailbox *(SP quota-root-name)
		s.enc.Raw("* QUOTAROOT ").Mailbox(name)
		for _, r := range roots {
			s.enc.SP().String(r.String())
		}
		s.enc.CRLF()
		for _, r := range roots {
			s.writeQuota(r, counts)
		}
		return nil
	}), d.End()
}

// writeOverQuota warns who has selected a mailbox (RFC 9208 section 4.3.1).
func (s *session) writeOverQuota(state quota.State) {
	switch state {
	case quota.OverSoft:
		s.enc.Raw("* NO [OVERQUOTA] Soft quota has been exceeded").CRLF()
	case quota.Full:
		s.enc.Raw("* NO [OVERQUOTA] Quota is used up").CRLF()
	}
}

// tellOverSoft warns who has made a root exceed a soft limit, once, before the OK of the command that did.
func (s *session) tellOverSoft(whose quota.Level) {
	if whose != "" {
		s.writeOverQuota(quota.OverSoft)
	}
}

// writeQuota tells what is used of a root. To those who may not read the mailbox that they asked for
// it tells nothing of messages (RFC 9208 section 6).
//
// quota-response = "QUOTA" SP quota-root-name SP quota-list
func (s *session) writeQuota(r store.QuotaRoot, counts bool) {
	s.enc.Raw("* QUOTA ").String(r.String())
	sep := " ("
	for _, resource := range quota.Resources {
		limit := r.Limits.Of(resource)
		if limit == nil || !counts && resource != quota.Mailbox {
			continue
		}
		s.enc.Raw(sep).Raw(string(resource)).
			SP().Raw(numeral(resource.Usage(r.Used.Of(resource)))).
			SP().Raw(numeral(resource.Limit(*limit)))
		sep = " "
	}
	if sep == " (" {
		s.enc.Raw(sep)
	}
	s.enc.Raw(")").CRLF()
}

// setquota          = "SETQUOTA" SP quota-root-name SP setquota-list
// setquota-list     = "(" [setquota-resource *(SP setquota-resource)] ")"
// setquota-resource = resource-name SP resource-limit
func readSetQuota(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.AString()
	d.SP()
	var limits quota.Limits
	var refused error
	d.List(func() {
		resource := quota.Resource(d.Keyword())
		d.SP()
		wanted := int64(d.Number64())
		if d.Err() != nil || refused != nil {
			return
		}
		if !resource.Known() {
			refused = no("CANNOT", "There is no such resource")
			return
		}
		if limits.Of(resource) != nil {
			d.Fail("%s twice", resource)
			return
		}
		limit, ok := resource.FromWire(wanted)
		if !ok {
			refused = no("CANNOT", "The limit is too high")
			return
		}
		limits = limits.With(resource, &limit)
	})
	return do(func(ctx context.Context, s *session) error {
		if refused != nil {
			return refused
		}
		r, err := s.store.LimitQuota(ctx, s.user, name, limits)
		if err != nil {
			return err
		}
		s.writeQuota(r, true)
		return nil
	}), d.End()
}
