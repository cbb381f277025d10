package imapd

// BODY and BODYSTRUCTURE.
//
// RFC 3501 section 7.4.2 and 9, RFC 9051 section 7.5.2.

import (
	"strconv"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/message"
)

// bodyForm is what a structure is told like; 0 is as BODY wants it.
type bodyForm uint8

const (
	bodyExtended bodyForm = 1 << iota // with the extension data of BODYSTRUCTURE
	bodyRev2                          // to a client of IMAP4rev2
)

func (s *session) bodyForm() bodyForm {
	if s.rev2 {
		return bodyRev2
	}
	return 0
}

// appendBodyStructure writes body.
//
// body = "(" (body-type-1part / body-type-mpart) ")"
func appendBodyStructure(b []byte, p *message.Part, form bodyForm) []byte {
	b = append(b, '(')
	if p.Multipart() {
		b = appendMultipart(b, p, form)
	} else {
		b = appendSinglePart(b, p, form)
	}
	return append(b, ')')
}

// body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]
func appendMultipart(b []byte, p *message.Part, form bodyForm) []byte {
	if len(p.Parts) == 0 {
		// The grammar wants at least one part, also where no boundary ever comes.
		b = append(b, `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)`...)
	}
	for _, part := range p.Parts {
		b = appendBodyStructure(b, part, form)
	}
	b = append(b, ' ')
	b = wire.AppendString(b, p.Subtype)
	if form&bodyExtended != 0 {
		b = append(b, ' ')
		b = form.appendParams(b, p.Params)
		b = form.appendExtension(b, p)
	}
	return b
}

// body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]
//
// The envelope and structure of a message/global are told only by IMAP4rev2:
// to a client of RFC 3501 only a message/rfc822 has them.
func appendSinglePart(b []byte, p *message.Part, form bodyForm) []byte {
	b = wire.AppendString(b, p.Type)
	b = append(b, ' ')
	b = wire.AppendString(b, p.Subtype)
	b = append(b, ' ')
	b = form.appendParams(b, p.Params)
	b = append(b, ' ')
	b = wire.AppendNString(b, p.ID)
	b = append(b, ' ')
	b = wire.AppendNString(b, p.Description)
	b = append(b, ' ')
	b = wire.AppendString(b, p.Encoding)
	b = append(b, ' ')
	b = strconv.AppendInt(b, p.Body.Len, 10)
	switch {
	case p.Inner != nil && (p.Subtype == "rfc822" || form&bodyRev2 != 0):
		b = append(b, ' ')
		b = appendEnvelope(b, p.Envelope)
		b = append(b, ' ')
		b = appendBodyStructure(b, p.Inner, form)
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Lines, 10)
	case p.Type == "text":
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Lines, 10)
	}
	if form&bodyExtended != 0 {
		b = append(b, ' ')
		b = wire.AppendNString(b, p.MD5)
		b = form.appendExtension(b, p)
	}
	return b
}

// appendExtension writes what ends body-ext-1part and body-ext-mpart alike:
// SP body-fld-dsp SP body-fld-lang SP body-fld-loc
func (form bodyForm) appendExtension(b []byte, p *message.Part) []byte {
	if p.Disposition == "" {
		b = append(b, " NIL"...)
	} else {
		b = append(b, " ("...)
		b = wire.AppendString(b, p.Disposition)
		b = append(b, ' ')
		b = form.appendParams(b, p.DispositionParams)
		b = append(b, ')')
	}
	b = append(b, ' ')
	if len(p.Language) == 0 {
		b = append(b, "NIL"...)
	} else {
		b = append(b, '(')
		for i, tag := range p.Language {
			if i > 0 {
				b = append(b, ' ')
			}
			b = wire.AppendString(b, tag)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	return wire.AppendNString(b, p.Location)
}

// body-fld-param = "(" string SP string *(SP string SP string) ")" / nil
//
// To a client of IMAP4rev2 values are told whole and in UTF-8 (RFC 9051 section 7.5.2).
func (form bodyForm) appendParams(b []byte, params []message.Param) []byte {
	if form&bodyRev2 != 0 {
		params = message.DecodeParams(params)
	}
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, p := range params {
		if i > 0 {
			b = append(b, ' ')
		}
		b = wire.AppendString(b, p.Name)
		b = append(b, ' ')
		b = wire.AppendString(b, p.Value)
	}
	return append(b, ')')
}
