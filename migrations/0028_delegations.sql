-- Mailboxes that a front end reads from memory, because nobody else changes them without its being told (store/delegation.go). A new
-- column and a new table; the previous release, which does not know them, recalls a mailbox as it changes it, but does not wait.
-- +goose Up

-- The front end that a mailbox is delegated to; negative where that was recalled and has not been given back yet.
ALTER TABLE mailbox ADD COLUMN delegate bigint;

-- Front ends to which mailboxes are delegated, for as long as they are heard from. One without a row is not waited for.
CREATE TABLE front_end (
    front_end_id bigint PRIMARY KEY,
    heard_at     timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON front_end TO mailstead_serving;

-- front_end_lives tells whether a front end has been heard from of late. One that was heard in the future was so before the clock was set back.
CREATE FUNCTION front_end_lives(number bigint) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
        SELECT EXISTS (SELECT FROM front_end WHERE front_end_id = number
            AND heard_at BETWEEN clock_timestamp() - interval '5 seconds' AND clock_timestamp() + interval '5 seconds')
    $$;

-- recall_delegate recalls a mailbox from the front end that it is delegated to as another process changes it, and informs that
-- process (MS012), which waits for it after its commit: also where another has recalled the mailbox already. INFO is what no setting keeps back.
-- Who changes the column itself takes or gives back the delegation, and nothing else; one that is taken from a front end tells it, should that
-- live after all.
-- +goose StatementBegin
CREATE FUNCTION recall_delegate() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    taken boolean := tg_op = 'UPDATE' AND new.delegate IS DISTINCT FROM old.delegate;
BEGIN
    IF taken AND (new.delegate IS NULL OR new.delegate = -old.delegate) THEN
        RETURN new;
    END IF;
    IF old.delegate > 0 THEN
        PERFORM pg_notify('mailstead_recall', 'recall ' || old.delegate || ' ' || old.tenant_id || ' ' || old.mailbox_id);
    END IF;
    IF taken THEN
        RETURN new;
    END IF;
    RAISE INFO 'mailbox is recalled' USING ERRCODE = 'MS012', DETAIL = old.tenant_id || ' ' || old.mailbox_id || ' ' || abs(old.delegate);
    IF tg_op = 'DELETE' THEN
        RETURN old;
    END IF;
    new.delegate := -abs(old.delegate);
    RETURN new;
END
$$;
-- +goose StatementEnd

-- One trigger with a short condition, which PostgreSQL reads anew in each statement that changes a mailbox.
CREATE TRIGGER recall_changed BEFORE UPDATE ON mailbox FOR EACH ROW
    WHEN (old.delegate IS NOT NULL AND old.delegate::text IS DISTINCT FROM current_setting('mailstead.front_end', true))
    EXECUTE FUNCTION recall_delegate();
CREATE TRIGGER recall_deleted BEFORE DELETE ON mailbox FOR EACH ROW
    WHEN (old.delegate IS NOT NULL AND old.delegate::text IS DISTINCT FROM current_setting('mailstead.front_end', true))
    EXECUTE FUNCTION recall_delegate();
