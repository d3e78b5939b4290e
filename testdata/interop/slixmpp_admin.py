"""An administrator's client on slixmpp: its plugins for ad-hoc commands (XEP-0050) and forms (XEP-0004), behind a
component. It is the app of slixmpp_component.py with these commands more:

    {"do": "commands", "to": "localhost", "id": "c1"}                 lists the commands
    {"do": "start", "to": "localhost", "id": "c1", "node": "..."}     starts one
    {"do": "step", "id": "c1", "action": "next", "fields": {"user": "ann@example.org"}}

Each answer to a command is an event: status, actions, notes and the fields of the form with their values.
"""

import slixmpp_component
from slixmpp_component import App, refusal, tell

ADMIN = "root@%s/desk"


class Admin(App):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.register_plugin("xep_0004")
        self.register_plugin("xep_0050")
        self.me = ADMIN % cfg["jid"]
        self.dialogs = {}

    def do_commands(self, c):
        self.ask(c, self["xep_0050"].get_commands(c["to"], ifrom=self.me),
                 lambda r: {"features": sorted(item[1] for item in r["disco_items"]["items"])})

    def do_start(self, c):
        session = {"next": self.on_command, "error": self.on_refused, "dialog": c["id"]}
        self["xep_0050"].start_command(c["to"], c["node"], session, ifrom=self.me)

    def do_step(self, c):
        session = self.dialogs[c["id"]]
        session["payload"] = None
        if "fields" in c:
            form = self["xep_0004"].make_form(ftype="submit")
            for name, value in c["fields"].items():
                form.add_field(var=name, value=value)
            session["payload"] = form
        {"cancel": self["xep_0050"].cancel_command, "complete": self["xep_0050"].complete_command}.get(
            c["action"], lambda s: self["xep_0050"].continue_command(s, direction=c["action"]))(session)

    def on_command(self, iq, session):
        self.dialogs[session["dialog"]] = session
        command = iq["command"]
        form = {}
        for field in command["form"].get_fields().values():
            form[field["var"]] = [o["value"] for o in field["options"]] or field.get_value(convert=False) or []
        tell("command", id=session["dialog"], type=command["status"], features=sorted(command["actions"]),
             form={k: v if isinstance(v, list) else [v] for k, v in form.items()},
             notes=[": ".join(note) for note in command["notes"]])

    def on_refused(self, iq, session):
        tell("error", **{"stanza": "iq", "from": str(iq["from"]), "id": session["dialog"], **refusal(iq.xml)})


if __name__ == "__main__":
    slixmpp_component.main(Admin)
