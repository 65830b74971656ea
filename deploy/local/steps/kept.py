"""Where to look while everything runs."""

from __future__ import annotations

from deploy.local.site import AGENTS, PROGRAMS
from deploy.local.story import Story

QUERY = "from deltalake import DeltaTable, QueryBuilder as Q; print(Q().register('t', DeltaTable('{table}')).execute('{sql}').read_all())"
SQL = "select device_id, bundle_digest, count(*) as predictions, {figure} from t group by 1, 2"
FIGURES = {"digits_line": "avg(score) as score", "belt_parts": "sum(count) as parts"}


async def frames_again(story: Story) -> None:
    """The story ends with agents that have no frame source; who stays wants to see rows come."""
    for name in AGENTS:
        await story.supervisor.stop(name)
        story.site.write_agent(name)
        await story.supervisor.start(name)


def where_to_look(story: Story) -> str:
    """For a person: addresses, files, one query, how to stop, and what ends after a week."""
    site = story.site
    table, sql = site.lake / f"bronze_{story.example}", SQL.format(figure=FIGURES[story.example])
    logs = "\n".join(f"    {name:10} {story.supervisor.log_path(name)}" for name in PROGRAMS)
    return f"""
All of it is running below {site.root}. Ctrl-C stops everything.
  operators' API   {site.url}/docs   (Authorization: Bearer, token in {site.token("operator")})
  CLI              SKERRY_URL={site.url} SKERRY_TOKEN_FILE={site.token("operator")} {site.bin("skerry")} status
  SITE             {site.keys}   (trainer/model-signing.pem, approver/approver.pem)
  a device         {site.bin("skerry-agent")} status --config {site.config("agent-1")}
                   its frames come from {site.frames("agent-1")}
  model registry   MLflow's own file, opened by skerry-control: {site.state("control") / "registry.db"}
  Delta table      {table}
    query          {site.bin("python")} -c "{QUERY.format(table=table, sql=sql)}"
  picture          {site.bin("skerry-local")} picture --work-dir {site.root} --out picture.html
  broker           mosquitto on 127.0.0.1:{site.ports.mqtt} (TLS 1.3, client certificates); a packaged mosquitto service is left as found
  logs
{logs}
Certificates of devices live seven days and are renewed by their agents; those of services and the metadata of this throw-away site are not:
start it anew after a week.
"""
