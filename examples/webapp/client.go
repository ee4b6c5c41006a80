package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// What -client says.
const (
	withXOAuth2 = "xoauth2"
	withMSAL    = "msal"
)

// newClient returns the client of the identity server. It is of one type whichever
// library asks for tokens, and the rest of the application knows no difference.
func (n *node) newClient(ctx context.Context) (client *xoauth2.Client, err error) {
	redirectURL := n.url + "/callback"
	scopes := []string{"openid", "profile", "offline_access", apiScope}
	hc := &http.Client{Transport: n.outgoing, Timeout: refreshTimeout}
	if n.library == withMSAL {
		client, err = msal.New(ctx, n.cache, &msal.Options{
			ClientSecret: clientSecret, RedirectURL: redirectURL, Scopes: scopes, HTTPClient: hc,
			DisableInstanceDiscovery: true, // Microsoft does not know the server; leave this out for Entra ID
		})
	} else {
		client, err = xoauth2.New(ctx, n.cache, &xoauth2.Options{
			ClientSecret: clientSecret, RedirectURL: redirectURL, Scopes: scopes, HTTPClient: hc,
		})
	}
	if untrusted := (*tls.CertificateVerificationError)(nil); errors.As(err, &untrusted) {
		return nil, fmt.Errorf("%w: -issuer-ca FILE says what to trust; if the server is that of another webapp, "+
			"it writes the file when it starts with -idp-cert-file FILE", err)
	}
	return client, err
}

// checkClient refuses a client that could not work with the identity server.
func (c *config) checkClient() error {
	u, err := url.Parse(c.issuer)
	if err != nil {
		return errors.New("-issuer: must be an http or https URL")
	}
	switch {
	case c.client != withXOAuth2 && c.client != withMSAL:
		return errors.New("-client: must be xoauth2 or msal")
	case c.idpCertFile != "" && (c.client != withMSAL || c.issuer != ""):
		return errors.New("-idp-cert-file: is for the built-in identity server with -client msal, which has a certificate; no other has")
	case c.issuerCA != "" && u.Scheme != "https":
		return errors.New("-issuer-ca: is for an -issuer that is https")
	case c.client == withMSAL && c.issuer != "" && (u.Scheme != "https" || u.RawQuery+u.Fragment != "" || !tenantPath.MatchString(u.Path)):
		return errors.New("-issuer: MSAL needs one that is https and has a tenant, such as https://127.0.0.1:8090/TENANT/v2.0; " +
			"the built-in identity server is one if it runs with -client msal, and says its issuer when it starts")
	}
	return nil
}
