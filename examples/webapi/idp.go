package main

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// The three clients, as the identity server knows them. Their secrets protect
// nothing, so they may stand in the source; real ones may not.
const (
	webID        = "webapi-web"
	webSecret    = "webapi-web-secret-for-local-use-only"
	ordersID     = "webapi-orders"
	ordersSecret = "webapi-orders-secret-for-local-use-only"
	pricesID     = "webapi-prices"
	pricesSecret = "webapi-prices-secret-for-local-use-only"
)

// The two APIs: what they are called in tokens (aud), what a token must allow
// (scp), and what clients ask for, which is both.
const (
	ordersAudience = "api://webapi-orders"
	ordersRead     = "Orders.Read"
	ordersScope    = ordersAudience + "/" + ordersRead

	pricesAudience = "api://webapi-prices"
	pricesRead     = "Prices.Read"
	pricesScope    = pricesAudience + "/" + pricesRead
)

// issuer is the identity server.
type issuer struct {
	url    string      // the issuer
	base   string      // where it takes orders from programs on this machine, if it is a local one
	server *idp.Server // nil if it runs elsewhere
}

// openIssuer starts the built-in identity server, unless there is another. It is to
// tell the web app at webURL who has signed out.
func openIssuer(cfg *config, webURL string) (*issuer, error) {
	if cfg.issuer != "" {
		return &issuer{url: cfg.issuer, base: issuerBase(cfg.issuer)}, nil
	}
	server, err := idp.Listen(cfg.idpAddr, &idp.Options{
		AutoLogin:     cfg.autoLogin,
		Consent:       !cfg.autoLogin,
		TokenLifetime: cfg.tokenLifetime,
		Clients: []idp.Client{
			{
				ID: webID, Secret: webSecret,
				RedirectURIs:         []string{"http://127.0.0.1/callback", "http://[::1]/callback"},
				BackChannelLogoutURI: webURL + "/backchannel-logout",
			},
			{ID: ordersID, Secret: ordersSecret, Audiences: []string{ordersAudience}},
			{ID: pricesID, Secret: pricesSecret, Audiences: []string{pricesAudience}},
		},
	})
	if err != nil {
		return nil, err
	}
	return &issuer{url: server.URL(), base: server.URL(), server: server}, nil
}

// issuerBase drops the tenant of an issuer that is shaped like Microsoft Entra
// ID's.
func issuerBase(issuer string) string {
	return regexp.MustCompile(`/[^/]+/v2\.0$`).ReplaceAllString(strings.TrimSuffix(issuer, "/"), "")
}

// origin is what the browser is sent to.
func (i *issuer) origin() string {
	u, err := url.Parse(i.base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// local tells whether the server is one that takes orders from programs on
// this machine.
func (i *issuer) local() bool {
	u, err := url.Parse(i.base)
	return err == nil && isLoopback(u.Hostname())
}

func (i *issuer) close(ctx context.Context) error {
	if i.server == nil {
		return nil
	}
	return i.server.Close(ctx)
}
