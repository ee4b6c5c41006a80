package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

type tokenCmd struct {
	oneAccount
}

// Run prints an access token. It is the only command that shows one.
func (c *tokenCmd) Run(ctx context.Context, p *program) error {
	return p.with(ctx, func(s *session) error {
		a, err := s.choose(ctx, c.Account)
		if err != nil {
			return err
		}
		token, err := s.token(ctx, s.partition(a), s.request())
		if err != nil {
			return err
		}
		if isTerminal(p.out) {
			p.ui.say("This token is good for whoever has it, until %s.", token.Expires.Local().Format(time.TimeOnly))
		}
		if !p.JSON {
			return p.print("%s", string(token.AccessToken))
		}
		return p.printJSON(struct {
			Token     string    `json:"token"`
			Type      string    `json:"token_type"`
			ExpiresOn time.Time `json:"expires_on"`
			Scopes    []string  `json:"scopes"`
			Account   account   `json:"account"`
		}{string(token.AccessToken), token.Type, token.Expires.UTC(), token.Scopes, described(a)})
	})
}

type whoamiCmd struct {
	oneAccount
	Check bool `help:"Ask the server whether the sign-in is still good, by renewing the token."`
}

// identity is who is signed in, and what is known of the sign-in.
type identity struct {
	Account  account `json:"account"`
	Issuer   string  `json:"issuer"`
	ClientID string  `json:"client_id"`
	// ExpiresOn is when the access token in the cache ends, absent if there is none.
	ExpiresOn time.Time `json:"token_expires_on,omitzero"`
	Checked   bool      `json:"checked"` // the server has just confirmed the sign-in
}

// Run tells who is signed in. What the server would say to it is known only with --check:
// it may have revoked everything, and the token that was issued is good until it ends.
func (c *whoamiCmd) Run(ctx context.Context, p *program) error {
	return p.with(ctx, func(s *session) error {
		a, err := s.choose(ctx, c.Account)
		if err != nil {
			return err
		}
		who := identity{Account: described(a), Issuer: s.cache.Namespace().Issuer, ClientID: s.cache.Namespace().ClientID}
		part, req := s.partition(a), s.request()
		token, err := part.Token(ctx, req, nil) // what is cached
		if err != nil && !errors.Is(err, tokencache.ErrNoTokens) {
			return err
		}
		if c.Check {
			req.Refused = token.AccessToken // another one, please
			if token, err = s.token(ctx, part, req); err != nil {
				return err
			}
			who.Checked = true
		}
		who.ExpiresOn = token.Expires.UTC()
		if p.JSON {
			return p.printJSON(who)
		}
		return p.print("%s", strings.Join(who.lines(time.Now()), "\n"))
	})
}

// lines is the answer for people.
func (who *identity) lines(now time.Time) []string {
	token := "none in the cache; the next is asked for with the refresh token"
	if left := who.ExpiresOn.Sub(now); left > 0 {
		token = "valid for " + clock(left)
	}
	list := []string{printable(who.Account.Username)}
	for _, l := range [][2]string{
		{"name", who.Account.Name}, {"tenant", who.Account.Tenant}, {"id", who.Account.ID},
		{"issuer", who.Issuer}, {"client", who.ClientID}, {"token", token},
	} {
		if l[1] != "" {
			list = append(list, "  "+l[0]+strings.Repeat(" ", 8-len(l[0]))+printable(l[1]))
		}
	}
	if who.Checked {
		list = append(list, "  sign-in good: the server has just renewed the token")
	}
	return list
}
