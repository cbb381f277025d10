-- The accounts by which certificates are ordered, at all authorities, so that their keys can be sealed anew. A new function, which the previous release
-- does not call.
-- +goose Up

-- list_order_accounts is for operators.
-- +goose StatementBegin
CREATE FUNCTION list_order_accounts() RETURNS TABLE (authority text, uri text, sealed bytea, sealed_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT a.authority::text, a.uri, a.sealed, a.sealed_by::text FROM certificate_account a ORDER BY a.authority;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION list_order_accounts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION list_order_accounts() TO mailstead_serving;
