package config

import "testing"

func TestCellsAreReached(t *testing.T) {
	c, err := load(t, `
cells:
  name: west
  secret: 0123456789abcdef0123456789abcdef
  others: ["east=imap.east.example.org", "north=imap.north.example.org:1143", "south=2001:db8::1", "moon=[2001:db8::2]:1143"]
  addresses: ["north=10.0.2.7:1993"]
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]string{
		{"east=imap.east.example.org:143", "imap.east.example.org:993"}, {"north=imap.north.example.org:1143", "10.0.2.7:1993"},
		{"south=[2001:db8::1]:143", "[2001:db8::1]:993"}, {"moon=[2001:db8::2]:1143", "[2001:db8::2]:993"},
	} {
		of := c.Cells.Others[i]
		if of.String() != want[0] || c.Cells.Address(of) != want[1] {
			t.Errorf("%s is reached at %s, want %v", of, c.Cells.Address(of), want)
		}
		if tls, err := c.Cells.TLS(of); err != nil || tls.ServerName != of.Host {
			t.Errorf("%s is known by %+v, %v", of, tls, err)
		}
	}
}
