package main

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
)

//go:embed templates static
var assets embed.FS

// pages renders what people see. It is immutable.
type pages struct {
	templates *template.Template
	log       *slog.Logger
}

func newPages(log *slog.Logger) (*pages, error) {
	t, err := template.New("").Funcs(template.FuncMap{"ms": formatMS, "euros": formatEuros}).ParseFS(assets, "templates/*.html")
	return &pages{templates: t, log: log}, err
}

func formatMS(ms float64) string { return fmt.Sprintf("%.2f ms", ms) }

func formatEuros(cents int) string { return fmt.Sprintf("€ %d.%02d", cents/100, cents%100) }

// static serves the stylesheet and the icon: the only answers that browsers may
// keep.
func (p *pages) static() http.Handler {
	files := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		files.ServeHTTP(w, r)
	})
}

// sessionNotice is what the session keeps for the next page to tell. Who is signed in,
// and the sign-ins that have begun, the handlers keep there.
const sessionNotice = "notice"

// page is what every page shows, around its own body.
type page struct {
	Title  string
	Notice string
	Body   any
}

// render writes a page at once or not at all.
func (p *pages) render(w http.ResponseWriter, status int, name string, data page) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name, data); err != nil {
		p.log.Error("a page could not be rendered", "page", name, "error", err)
		status = http.StatusServiceUnavailable
		body.Reset()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the client has left: nobody to tell
}

// problemView is the body of the page for a problem: what is wrong, what was said
// about it to the letter, and what leads on.
type problemView struct {
	Text, Said, Href, Label string
	Allow                   bool
}

func (p problem) view(local bool) problemView {
	v := problemView{Text: p.text, Said: p.said, Href: "/", Label: "Back to the start", Allow: p.allow && local}
	if p.retry > 0 {
		v.Label = "Try again"
	}
	return v
}

// overview is the body of the signed-in user's page.
type overview struct {
	Name, Username string
	Hops           []hopView
	Orders         []order
	Local          bool // whether the identity server can be told to make trouble
}

// hopView is one call, or the place of one before the first.
type hopView struct {
	From, To string
	Done     bool
	Place    string // where the token came from
	hop
}

// home is the overview, or the sign-in page if nobody is signed in.
func (a *web) home(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if a.handlers.Ticket(ctx) == "" {
		a.pages.render(w, http.StatusOK, "signin.html", page{Title: "Sign in", Notice: a.sessions.PopString(ctx, sessionNotice)})
		return
	}
	a.show(w, r, chain{})
}

// show is the overview, with what a call has brought.
func (a *web) show(w http.ResponseWriter, r *http.Request, c chain) {
	ctx := r.Context()
	user, err := a.user(ctx)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.pages.render(w, http.StatusOK, "home.html", page{
		Title: "On your behalf", Notice: a.sessions.PopString(ctx, sessionNotice),
		Body: overview{
			Name: user.Name, Username: user.Username, Local: a.issuer.local(),
			Hops: viewsOf(c), Orders: c.Orders,
		},
	})
}

func viewsOf(c chain) []hopView {
	views := []hopView{{From: "This web app", To: "Orders"}, {From: "Orders", To: "Prices"}}
	places := map[string]string{"l1": "L1", "provider": "the provider", "server": "the identity server"}
	for i := range min(len(views), len(c.Hops)) {
		h := c.Hops[i]
		views[i].Done, views[i].hop, views[i].Place = true, h, places[h.Source]
	}
	return views
}
