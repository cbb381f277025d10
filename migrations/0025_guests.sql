-- Guests: accounts that are let in by what lets their users in elsewhere, in another cell; and visits, of users here, to whom mailboxes of
-- other cells are shared. New tables; the previous release does not know them, and lets no guest in, who has no password.
-- +goose Up

CREATE TABLE guest (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    home       text COLLATE "C" NOT NULL, -- the login of the guest's user in the cell of its domain, as remote_domain has it
    subject    text COLLATE "C",          -- which account of that login it is, as its cell names it: the one that came first; NULL: none has come
    refused    timestamptz,               -- when another account of that login was refused last, to within an hour; NULL: none has been
    PRIMARY KEY (tenant_id, account_id)
);
CREATE INDEX guest_home ON guest (split_part(home, '@', -1));
CALL protect('guest');

CREATE TABLE visit (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    cell       text COLLATE "C" NOT NULL,
    guest      text COLLATE "C" NOT NULL, -- the login there
    PRIMARY KEY (tenant_id, account_id, cell)
);
CALL protect('visit');

-- revoke_guests ends the sessions of guests whose home's domain lives elsewhere from now on: another cell is asked about them, or none. It runs as the
-- owner, as does all that changes remote_domain.
-- +goose StatementBegin
CREATE FUNCTION revoke_guests() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM account a
        JOIN guest g ON g.tenant_id = a.tenant_id AND g.account_id = a.account_id
        WHERE split_part(g.home, '@', -1) = old.name
        ORDER BY a.account_id
        FOR NO KEY UPDATE OF a;
    WITH made AS (
        INSERT INTO revocation (tenant_id, account_id, app_password_id)
        SELECT g.tenant_id, g.account_id, 0 FROM guest g WHERE split_part(g.home, '@', -1) = old.name
        RETURNING tenant_id, account_id, revocation_id
    )
    UPDATE account a SET revoked = made.revocation_id FROM made WHERE a.tenant_id = made.tenant_id AND a.account_id = made.account_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION revoke_guests() FROM PUBLIC;
CREATE TRIGGER guests_moved AFTER UPDATE OF cell ON remote_domain FOR EACH ROW WHEN (old.cell <> new.cell) EXECUTE FUNCTION revoke_guests();
CREATE TRIGGER guests_gone AFTER DELETE ON remote_domain FOR EACH ROW EXECUTE FUNCTION revoke_guests();
