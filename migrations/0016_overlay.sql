-- \Seen of each who reads a mailbox that is another's. New columns with defaults that say what is so of a
-- mailbox of which nobody else knows, and a new table; the previous release knows neither, and has one \Seen for all.
-- +goose Up

ALTER TABLE mailbox
    ADD COLUMN shared_seen boolean NOT NULL DEFAULT false, -- all who read it have one \Seen, the owner's; else each their own
    ADD COLUMN others      boolean NOT NULL DEFAULT false; -- its list names others than the owner; moves with acl_epoch

-- What a reader has of their own at folded_modseq, as view.Overlay; the log goes on from it.
CREATE TABLE mailbox_overlay (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    account_id bigint NOT NULL, -- the reader, who is not the owner; 0: what all others begin with
    modseq     bigint NOT NULL, -- when messages that are gone were left out last
    data       bytea NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, account_id)
);
ALTER TABLE mailbox_overlay ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX mailbox_overlay_account ON mailbox_overlay (tenant_id, account_id) WHERE account_id <> 0;
CALL protect('mailbox_overlay');

-- fold_overlays puts overlays in the place of those that readers had, behind fold_mailbox, which has locked the mailbox
-- and demanded that nobody else has folded it. anew says that all were void before.
-- A reader who is being deleted has none.
-- +goose StatementBegin
CREATE FUNCTION fold_overlays(t bigint, box bigint, up_to bigint, anew boolean, readers bigint[], overlays bytea[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF anew THEN
        DELETE FROM mailbox_overlay WHERE tenant_id = t AND mailbox_id = box;
    END IF;
    INSERT INTO mailbox_overlay (tenant_id, mailbox_id, account_id, modseq, data)
    SELECT t, box, o.reader, up_to, o.data
    FROM unnest(readers, overlays) AS o (reader, data)
    WHERE o.reader = 0 OR EXISTS (SELECT FROM account a WHERE a.tenant_id = t AND a.account_id = o.reader AND NOT a.deleting)
    ON CONFLICT (tenant_id, mailbox_id, account_id) DO UPDATE SET modseq = excluded.modseq, data = excluded.data;
END
$$;
-- +goose StatementEnd
