import click


@click.command()
@click.argument("whom")
def hello(whom):
    """Greet."""
    click.echo(f"hello {whom}")
