package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

//go:embed templates static
var assets embed.FS

// pages renders what people see. It is immutable.
type pages struct{ templates *template.Template }

func newPages() (*pages, error) {
	t, err := template.ParseFS(assets, "templates/*.html")
	return &pages{templates: t}, err
}

// static serves the stylesheet, the script and the icon: the only answers that
// browsers may keep.
func (p *pages) static() http.Handler {
	files := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		files.ServeHTTP(w, r)
	})
}

// page is what every page shows, around its own body.
type page struct {
	Title  string
	Notice string
	Nodes  []nodeLink
	Body   any
}

type nodeLink struct {
	Number int
	URL    string
	Here   bool
}

// render writes a page at once or not at all.
func (n *node) render(w http.ResponseWriter, status int, name string, p page) {
	if len(n.nodes) > 1 {
		for _, other := range n.nodes {
			p.Nodes = append(p.Nodes, nodeLink{Number: other.number, URL: other.url, Here: other == n})
		}
	}
	n.renderPart(w, status, name, p)
}

func (n *node) renderPart(w http.ResponseWriter, status int, name string, data any) {
	var body bytes.Buffer
	if err := n.pages.templates.ExecuteTemplate(&body, name, data); err != nil {
		n.log.Error("a page could not be rendered", "page", name, "error", err)
		status = http.StatusServiceUnavailable
		body.Reset()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the client has left: nobody to tell
}

// problemView is the body of the page for a problem: what is wrong, and a link
// that leads on.
type problemView struct{ Text, Href, Label string }

func (p problem) view() problemView {
	if p.retry > 0 {
		return problemView{p.text, "/", "Try again"}
	}
	return problemView{p.text, "/", "Back to the start"}
}

// dashboard is the body of the signed-in user's page.
type dashboard struct {
	Name, Username string
	Tokens         []tokenView
	Last           lastView
	CanRevoke      bool
	Shared         bool   // by other processes
	Address        string // of this one
}

// home is the dashboard, or the sign-in page if nobody is signed in.
func (n *node) home(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	p, ok := n.cache.FromContext(ctx)
	if !ok {
		n.render(w, http.StatusOK, "signin.html", page{Title: "Sign in", Notice: n.sessions.PopString(ctx, sessionNotice)})
		return
	}
	tokens, err := p.Tokens(ctx)
	if err != nil {
		n.fail(w, r, err)
		return
	}
	account := userOf(tokens)
	n.render(w, http.StatusOK, "dashboard.html", page{
		Title:  "Your tokens",
		Notice: n.sessions.PopString(ctx, sessionNotice),
		Body: dashboard{
			Name: account.Name, Username: account.Username,
			Tokens: viewsOf(tokens), Last: n.lastAnswer(ctx), CanRevoke: n.issuer.local(),
			Shared: n.store.name != inMemory, Address: n.listener.Addr().String(),
		},
	})
}

// tokens is the part of the dashboard that changes with the cache.
func (n *node) tokens(w http.ResponseWriter, r *http.Request) {
	p, _ := n.cache.FromContext(r.Context()) // RequireTokens has seen it
	tokens, err := p.Tokens(r.Context())
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.renderPart(w, http.StatusOK, "tokens", viewsOf(tokens))
}

// formCall is the button that calls the API.
func (n *node) formCall(w http.ResponseWriter, r *http.Request) {
	a, err := n.call(r.Context())
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.rememberAnswer(r.Context(), a.source, a.took)
	n.sessions.Put(r.Context(), sessionNotice, "The API knows you as "+a.Name+".")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// formDo is a button that does something and then shows the dashboard again.
func (n *node) formDo(action func(context.Context) error, notice string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := action(r.Context()); err != nil {
			n.fail(w, r, err)
			return
		}
		n.sessions.Put(r.Context(), sessionNotice, notice)
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// lastView is where the last answer came from, how long it took, and what the
// provider is.
type lastView struct{ Source, From, Took, Provider string }

func (n *node) rememberAnswer(ctx context.Context, source tokencache.Source, took time.Duration) {
	n.sessions.Put(ctx, sessionLast, fmt.Sprintf("%s %.2f ms", source, float64(took.Microseconds())/1000))
}

func (n *node) lastAnswer(ctx context.Context) lastView {
	source, took, _ := strings.Cut(n.sessions.GetString(ctx, sessionLast), " ")
	from := map[string]string{"l1": "L1", "provider": "the provider", "server": "the identity server"}[source]
	return lastView{Source: source, From: from, Took: took, Provider: n.store.title}
}
