// Package store is the mail model: tenants, domains and accounts, mailboxes as
// logs of changes, emails and their content, and everything that is counted of
// them. It holds all SQL, and is the only way in which mail changes.
package store
